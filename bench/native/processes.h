/* Processes that measure together: children made before anything is connected, pipes to tell that something is done, and
 * a page that both see.
 */
#ifndef BENCH_PROCESSES_H_
#define BENCH_PROCESSES_H_

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "measure.h"

typedef struct {
  pid_t pid;
  int from_child, to_child; /* the parent's ends of two pipes */
} child;

/* What a child may use to talk to its parent. */
typedef struct { int to_parent, from_parent; } parent;

/* Runs `role` in a child, which ends when it returns. The child ends with its parent, whatever becomes of that. */
static inline child spawn(void (*role)(const options *, parent, void *), const options *o, void *context) {
  int up[2], down[2];
  if (pipe(up) != 0 || pipe(down) != 0) die("no pipe");
  fflush(stdout);
  const pid_t self = getpid();
  const pid_t pid = fork();
  if (pid < 0) die("cannot fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != self) _exit(1);
    close(up[0]);
    close(down[1]);
    const parent p = {up[1], down[0]};
    role(o, p, context);
    exit(0);
  }
  close(up[1]);
  close(down[0]);
  const child c = {pid, up[0], down[1]};
  return c;
}

static inline void send_word(int fd, uint64_t word) {
  if (write(fd, &word, sizeof word) != (ssize_t)sizeof word) die("the other process has ended");
}

static inline uint64_t receive_word(int fd) {
  uint64_t word = 0;
  ssize_t got;
  do got = read(fd, &word, sizeof word);
  while (got < 0 && errno == EINTR);
  if (got != (ssize_t)sizeof word) die("the other process has ended");
  return word;
}

/* Returns when the parent lets this child go on, or has ended. */
static inline void wait_for_end(parent p) {
  uint64_t word;
  if (read(p.from_parent, &word, sizeof word) < 0) die("cannot read from the parent");
}

static inline void join(child c) {
  int status;
  close(c.to_child);
  if (waitpid(c.pid, &status, 0) != c.pid) die("a child is gone");
  close(c.from_child);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) die("a child ended with status %d", status);
}

static inline void *shared_page(void) {
  void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) die("no shared page");
  return page;
}

#endif

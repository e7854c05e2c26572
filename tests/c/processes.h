/* The processes of the C test programs: a child that ends with its parent, and how one is to end. */
#ifndef PROCESSES_H
#define PROCESSES_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* Forks; no child outlives its parent, however that ends. Children end with _Exit: what belongs to threads that did not
 * come along, such as the store's, can be freed by nobody, and a leak check at exit would call it leaked. */
static inline pid_t fork_child(void) {
  fflush(NULL);
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
  }
  return pid;
}

static inline void wait_for_success(pid_t pid) {
  int status = -1;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static inline void kill_child(pid_t pid) {
  CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
}

#endif

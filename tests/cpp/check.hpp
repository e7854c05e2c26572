//! What the programs of this directory share: a check that ends the program, and what a call throws.
#ifndef PLASMA_STORE_TESTS_CHECK_HPP_
#define PLASMA_STORE_TESTS_CHECK_HPP_

#include <plasma_store.hpp>

#include <cstdlib>
#include <iostream>
#include <string>

// Ends the program when something does not hold.
#define CHECK(...) check(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)

inline void check(bool holds, const char* what, const char* file, int line) {
  if (holds) return;
  std::cerr << file << ":" << line << ": not so: " << what << '\n' << plasma_last_error_message() << '\n';
  std::_Exit(1);
}

// The status that a call throws; ok when it does not throw.
template <class Call>
plasma::Status thrown(Call call) {
  try {
    call();
  } catch (const plasma::Error& error) {
    return error.status();
  }
  return plasma::Status::ok;
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// What main is: the name of the program and ": ok", or what was thrown.
template <class Run>
int played(const char* name, Run run) {
  try {
    run();
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  std::cout << name << ": ok\n";
  return 0;
}

#endif  // PLASMA_STORE_TESTS_CHECK_HPP_

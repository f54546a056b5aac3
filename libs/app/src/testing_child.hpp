// A function run in a child process, its stdout and stderr read line by line: signals, exit codes
// and what a program prints are facts of a process.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <functional>
#include <string>

namespace conclave::app {

class Child {
 public:
  /// The child ends with what `main` returns. Fork needs a parent without threads.
  explicit Child(const std::function<int()>& main) {
    int ends[2] = {-1, -1};
    if (::pipe(ends) != 0) return;
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::dup2(ends[1], STDERR_FILENO);
      ::close(ends[0]);
      ::close(ends[1]);
      const int code = main();
      std::fflush(nullptr);
      ::_exit(code);
    }
    ::close(ends[1]);
    output_ = ::fdopen(ends[0], "r");
  }
  /// A child that the test left running does not outlive it.
  ~Child() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    wait();
    if (output_ != nullptr) std::fclose(output_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// The next line, without its end; "" also at the end of the output.
  std::string line() {
    std::string text;
    for (int c = std::fgetc(output_); c != EOF && c != '\n'; c = std::fgetc(output_)) {
      text += static_cast<char>(c);
    }
    return text;
  }
  /// The next line that has `text` in it; "" if there is none.
  std::string line_with(const std::string& text) {
    while (std::feof(output_) == 0) {
      std::string next = line();
      if (next.find(text) != std::string::npos) return next;
    }
    return "";
  }

  void send(int signal) const { ::kill(pid_, signal); }

  /// The exit code, or minus the signal that killed it.
  int wait() {
    if (pid_ > 0) {
      int status = 0;
      EXPECT_EQ(::waitpid(pid_, &status, 0), pid_);
      pid_ = -1;
      code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    return code_;
  }

 private:
  pid_t pid_ = -1;
  int code_ = -1;
  std::FILE* output_ = nullptr;
};

}  // namespace conclave::app

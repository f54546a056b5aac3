#include "supervisor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace conclave::cli {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;

// No child here needs it: a test that comes near it hangs.
constexpr milliseconds kPatience{20'000};

ChildSpec shell(const std::string& name, const std::string& script, int stage = 0) {
  return {name, {"/bin/sh", "-c", script}, stage};
}

// Waits in a child of its own, as a program that works does: ends by SIGTERM.
const std::string kWork = "while :; do sleep 1000; done";
// Says "up", so that a test knows that the script runs.
const std::string kUpAndWork = "echo up; " + kWork;

class SupervisorTest : public testing::Test {
 protected:
  // Runs the children to their end, with what happened noted. `on_line` may act on a line.
  base::Status run(std::vector<ChildSpec> children, milliseconds patience = kPatience) {
    supervisor_ = std::make_unique<Supervisor>(
        std::move(children),
        Supervisor::Hooks{[this](const std::string& name, std::string_view line) {
                            lines_.push_back(name + ": " + std::string(line));
                            if (on_line_) on_line_(lines_.back());
                          },
                          [this](const std::string& name, const std::string& how, milliseconds) {
                            falls_.push_back(name + ": " + how);
                            if (on_fall_) on_fall_();
                          },
                          [this] { ++endings_; },
                          [this] {
                            ++ticks_;
                            if (on_tick_) on_tick_();
                          }});
    const base::Status status = supervisor_->run(patience);
    supervisor_.reset();
    return status;
  }

  void end() { supervisor_->end(); }

  std::unique_ptr<Supervisor> supervisor_;
  std::vector<std::string> lines_;
  std::vector<std::string> falls_;
  int endings_ = 0;
  int ticks_ = 0;
  std::function<void(const std::string& line)> on_line_;
  std::function<void()> on_fall_;
  std::function<void()> on_tick_;
};

// One whose foster parent has not reaped it yet does not run.
bool is_running(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  return std::getline(file, text) && text.find(") Z ") == std::string::npos;
}

TEST_F(SupervisorTest, GivesLinesOfBothStreamsWithTheirChild) {
  on_line_ = [this](const std::string&) {
    if (lines_.size() == 3) end();
  };
  ASSERT_TRUE(run({shell("a", "echo one; echo two >&2; " + kWork), shell("b", kUpAndWork)}));
  EXPECT_THAT(lines_, testing::UnorderedElementsAre("a: one", "a: two", "b: up"));
  EXPECT_EQ(endings_, 1);
}

TEST_F(SupervisorTest, GivesALineWithoutAnEndWhenItsChildIsGone) {
  on_fall_ = [this] { end(); };
  ASSERT_TRUE(run({shell("a", "printf 'whole\\n\\nhalf'; exit 3")}));
  EXPECT_THAT(lines_, ElementsAre("a: whole", "a: ", "a: half"));
  EXPECT_THAT(falls_, ElementsAre("a: exit code 3"));
}

TEST_F(SupervisorTest, JoinsALineThatComesInPieces) {
  // The second half is written when the first one has been read.
  const std::filesystem::path fifo =
      std::filesystem::temp_directory_path() / ("conclave-fifo-" + std::to_string(::getpid()));
  on_line_ = [this](const std::string& line) {
    if (line == "a: onetwo") end();
  };
  on_tick_ = [&] {
    if (ticks_ == 3) std::ofstream(fifo) << "go\n";
  };
  ASSERT_TRUE(run({shell("a", "mkfifo " + fifo.string() + "; printf one; read go < " +
                                  fifo.string() + "; echo two; " + kWork)}));
  EXPECT_THAT(lines_, ElementsAre("a: onetwo"));
  std::filesystem::remove(fifo);
}

TEST_F(SupervisorTest, GivesAnEndlessLineInPieces) {
  on_line_ = [this](const std::string&) {
    if (lines_.size() == 4) end();
  };
  ASSERT_TRUE(run({shell("a", "yes x | tr -d '\\n'")}));
  ASSERT_GE(lines_.size(), 4U);
  EXPECT_EQ(lines_[0], "a: " + std::string(16384, 'x'));
  EXPECT_EQ(lines_[1], lines_[0]);
}

TEST_F(SupervisorTest, TakesAllThatALoudChildLeaves) {
  on_fall_ = [this] { end(); };
  ASSERT_TRUE(
      run({shell("a", "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo line $i; done; exit 1")}));
  ASSERT_EQ(lines_.size(), 5000U);
  EXPECT_EQ(lines_.back(), "a: line 5000");
}

TEST_F(SupervisorTest, StartsAgainWhatFalls) {
  std::vector<pid_t> pids;
  on_line_ = [&](const std::string&) {
    pids.push_back(supervisor_->pid("a"));
    if (pids.size() == 3) return end();
    ::kill(pids.back(), SIGKILL);
  };
  ASSERT_TRUE(run({shell("a", kUpAndWork)}));
  ASSERT_EQ(pids.size(), 3U);
  EXPECT_NE(pids[0], pids[1]);
  EXPECT_NE(pids[1], pids[2]);
  EXPECT_THAT(falls_, ElementsAre("a: signal 9", "a: signal 9"));
}

TEST_F(SupervisorTest, GivesUpOnAChildThatNeverRuns) {
  const base::Status status = run({shell("good", kWork), shell("bad", "echo why; exit 7")});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::ErrorCode::kUnavailable);
  EXPECT_THAT(status.error().message, HasSubstr("bad ended with exit code 7"));
  EXPECT_EQ(falls_.size(), static_cast<std::size_t>(Supervisor::kFallsMax) - 1);
  EXPECT_EQ(std::count(lines_.begin(), lines_.end(), "bad: why"), Supervisor::kFallsMax);
}

TEST_F(SupervisorTest, GivesUpAtOnceOnAWrongCommandLine) {
  const base::Status status = run({shell("bad", "echo no such flag; exit 2")});
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("bad ended with exit code 2"));
  EXPECT_THAT(lines_, ElementsAre("bad: no such flag"));
  EXPECT_TRUE(falls_.empty());
}

TEST_F(SupervisorTest, NeverGivesUpOnceAllIsSettled) {
  on_tick_ = [this] { supervisor_->settle(); };
  on_fall_ = [this] {
    if (falls_.size() == static_cast<std::size_t>(Supervisor::kFallsMax) + 1) end();
  };
  EXPECT_TRUE(run({shell("a", "exit 2")}));
}

TEST_F(SupervisorTest, SaysWhichProgramCannotBeStarted) {
  const base::Status missing = run({shell("good", kWork), {"bad", {"/no/such/program"}, 0}});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message, "/no/such/program: No such file or directory");
  const base::Status folder = run({{"bad", {"/tmp"}, 0}});
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().message, "/tmp: Permission denied");
}

TEST_F(SupervisorTest, EndsStageAfterStage) {
  const std::string script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done";
  on_line_ = [this](const std::string&) {
    if (lines_.size() == 4) end();
  };
  ASSERT_TRUE(run({shell("last", script, 2), shell("first", script, 0),
                   shell("second-1", script, 1), shell("second-2", script, 1)}));
  ASSERT_EQ(lines_.size(), 8U);
  EXPECT_EQ(lines_[4], "first: bye");
  EXPECT_THAT(lines_[5], testing::StartsWith("second"));
  EXPECT_THAT(lines_[6], testing::StartsWith("second"));
  EXPECT_EQ(lines_[7], "last: bye");
  EXPECT_TRUE(falls_.empty()) << "an end that was asked for is no fall";
}

TEST_F(SupervisorTest, KillsWhatIgnoresItsSignalAfterSomePatience) {
  on_line_ = [this](const std::string&) { end(); };
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(run({shell("deaf", "trap '' TERM; " + kUpAndWork)}, milliseconds(300)));
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(took, milliseconds(300));
  EXPECT_LT(took, kPatience);
}

TEST_F(SupervisorTest, ASignalEndsAndASecondOneKills) {
  on_line_ = [this](const std::string& line) {
    if (line == "deaf: up") ::kill(::getpid(), SIGINT);
    if (line == "deaf: asked") ::kill(::getpid(), SIGTERM);
  };
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(
      run({shell("deaf", "trap 'echo asked' TERM; echo up; while :; do sleep 0.01; done")}));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kPatience);
  EXPECT_EQ(endings_, 1);
  EXPECT_THAT(lines_, ElementsAre("deaf: up", "deaf: asked"));
}

TEST_F(SupervisorTest, EndsAChildThatIsStopped) {
  on_line_ = [this](const std::string&) {
    ::kill(supervisor_->pid("a"), SIGSTOP);
    end();
  };
  EXPECT_TRUE(run({shell("a", kUpAndWork)}, milliseconds(200)));
}

TEST_F(SupervisorTest, ChildrenLeadGroupsThatTheTerminalDoesNotSignal) {
  pid_t group = 0;
  pid_t leader = 0;
  on_line_ = [&](const std::string&) {
    leader = supervisor_->pid("a");
    group = ::getpgid(leader);
    end();
  };
  ASSERT_TRUE(run({shell("a", kUpAndWork)}));
  EXPECT_EQ(group, leader);
  EXPECT_NE(group, ::getpgrp());
}

TEST_F(SupervisorTest, LeavesNoChildOfAChild) {
  pid_t grandchild = 0;
  on_line_ = [&](const std::string& line) {
    grandchild = std::stoi(line.substr(3));
    end();
  };
  ASSERT_TRUE(run({shell("a", "sleep 1000 & echo $!; wait")}));
  ASSERT_GT(grandchild, 0);
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (is_running(grandchild) && std::chrono::steady_clock::now() < end)
    std::this_thread::yield();
  EXPECT_FALSE(is_running(grandchild));
}

TEST_F(SupervisorTest, ChildrenGetCleanSignalsAndNoInput) {
  on_line_ = [this](const std::string& line) {
    if (line.find("Sig") != std::string::npos && lines_.size() == 3) end();
  };
  ::signal(SIGPIPE, SIG_IGN);
  ASSERT_TRUE(run({shell(
      "a", "readlink /proc/self/fd/0; grep -E 'SigBlk|SigIgn' /proc/self/status; " + kWork)}));
  ::signal(SIGPIPE, SIG_DFL);
  // Beyond the 31 signals with names are some that the C library keeps to itself.
  EXPECT_THAT(lines_, ElementsAre("a: /dev/null", MatchesRegex("a: SigBlk:.[0-9a-f]{8}00000000"),
                                  MatchesRegex("a: SigIgn:.[0-9a-f]{8}[08]0000000")));
}

TEST_F(SupervisorTest, ChildrenInheritNoDescriptors) {
  const int open = ::dup(STDERR_FILENO);  // without close-on-exec, as a careless library makes them
  on_fall_ = [this] { end(); };
  ASSERT_TRUE(run({shell(
      "a", "test -e /proc/self/fd/" + std::to_string(open) + " && echo inherited; exit 1")}));
  ::close(open);
  EXPECT_TRUE(lines_.empty());
}

TEST_F(SupervisorTest, SignalsAreAsBeforeWhenItIsGone) {
  on_line_ = [this](const std::string&) { ::kill(::getpid(), SIGTERM); };
  ASSERT_TRUE(run({shell("a", kUpAndWork)}));
  sigset_t now;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
  EXPECT_FALSE(sigismember(&now, SIGTERM));
  EXPECT_FALSE(sigismember(&now, SIGCHLD));
}

TEST_F(SupervisorTest, IsQuietWhileNothingHappens) {
  // A loop that spins would come by many more times than its clock ticks.
  on_line_ = [this](const std::string&) { ticks_ = 0; };
  on_tick_ = [this] {
    if (ticks_ == 5) end();
  };
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(run({shell("a", "echo up; exec >/dev/null 2>&1; " + kWork)}));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(600));
}

}  // namespace
}  // namespace conclave::cli

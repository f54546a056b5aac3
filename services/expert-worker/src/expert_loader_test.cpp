#include "expert_loader.hpp"

#include <gmock/gmock.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <string>

#include "conclave/model/digest.hpp"
#include "conclave/testkit/events.hpp"
#include "testing_model.hpp"

namespace conclave::expert_worker {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

constexpr const char* kModel = "qwen3moe-q8_0";
constexpr milliseconds kNever{3'600'000};

class ExpertLoaderTest : public ::testing::Test {
 protected:
  ExpertLoaderTest() : model_(kModel), host_(model_.compute->compute()) {}

  void start(LoaderOptions options = {}) {
    if (options.memory_bytes == 0) options.memory_bytes = ~std::uint64_t{0};
    if (options.retry == LoaderOptions{}.retry) options.retry = kNever;
    loader_ = std::make_unique<ExpertLoader>(
        host_, store_, options,
        [this](bool settled) {
          if (on_change_) on_change_(settled);
          if (settled) settled_.add(true);
        },
        metrics_, telemetry::Logger());
  }

  // The first so many experts, layer after layer.
  [[nodiscard]] wire::Assignment first(std::size_t experts, std::uint64_t epoch) const {
    wire::Assignment assignment = testkit::whole_assignment(epoch, model_.version, model_.config);
    assignment.experts.resize(experts);
    return assignment;
  }

  void apply(wire::Assignment assignment) {
    loader_->assign({std::move(assignment)});
    ASSERT_TRUE(settled_.wait());
  }

  TestModel model_;
  telemetry::Metrics metrics_;
  artifacts::Store store_{{}, [] { return std::chrono::system_clock::now(); }, metrics_, {}};
  ExpertHost host_;
  testkit::Events<bool> settled_;
  std::function<void(bool)> on_change_;  // on the loader's thread
  std::unique_ptr<ExpertLoader> loader_;
};

TEST_F(ExpertLoaderTest, HasNothingToDoAtFirst) {
  start();

  EXPECT_EQ(loader_->epoch(), 0u);
  EXPECT_EQ(loader_->problem(), "no assignment yet");
}

// The nice values of this process's threads.
std::vector<int> nice_values() {
  std::vector<int> values;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    values.push_back(
        getpriority(PRIO_PROCESS, static_cast<id_t>(std::stoul(task.path().filename()))));
  }
  return values;
}

TEST_F(ExpertLoaderTest, ReadsOnThreadsThatStandBackAndInsertsOnOnesThatDoNot) {
  const int usual = getpriority(PRIO_PROCESS, 0);
  start({.nice = 7});
  std::vector<int> nice;
  int own = -1;
  on_change_ = [&](bool settled) {
    if (settled) return;
    nice = nice_values();
    own = getpriority(PRIO_PROCESS, static_cast<id_t>(gettid()));
  };

  apply(first(6, 1));

  EXPECT_EQ(host_.size(), 6u);
  EXPECT_THAT(nice, ::testing::Contains(std::min(usual + 7, 19)));
  EXPECT_EQ(own, usual);
}

TEST_F(ExpertLoaderTest, HostsWhatItIsGiven) {
  start();

  apply(first(3, 5));

  EXPECT_EQ(loader_->epoch(), 5u);
  EXPECT_EQ(loader_->problem(), "");
  EXPECT_EQ(host_.ready(model_.version).count(), 3u);
  EXPECT_TRUE(host_.ready(model_.version).test(0, 2));
  ASSERT_EQ(host_.hosted().size(), 1u);
  EXPECT_EQ(host_.hosted()[0].model, model_.version);
}

TEST_F(ExpertLoaderTest, DropsWhatIsNoLongerListed) {
  start();
  apply(first(model_.experts(), 1));
  const std::size_t bytes = host_.bytes();

  wire::Assignment less = first(model_.experts(), 2);
  less.experts.erase(less.experts.begin(), less.experts.end() - 2);
  apply(less);

  EXPECT_EQ(host_.size(), 2u);
  EXPECT_LT(host_.bytes(), bytes);
  EXPECT_FALSE(host_.ready(model_.version).test(0, 0));
  EXPECT_EQ(loader_->problem(), "");
}

TEST_F(ExpertLoaderTest, AnAssignmentReplacesOneThatIsHalfDone) {
  std::promise<void> second_is_there;
  std::shared_future<void> go_on(second_is_there.get_future());
  testkit::Events<bool> came;
  on_change_ = [&came, go_on](bool settled) {
    came.add(settled);
    go_on.wait();
  };
  start();

  loader_->assign({first(model_.experts(), 1)});
  ASSERT_EQ(came.wait(), false);  // the first expert
  wire::Assignment other = first(model_.experts(), 2);
  other.experts.erase(other.experts.begin(), other.experts.end() - 1);
  loader_->assign({other});
  EXPECT_EQ(loader_->problem(), "loading experts");
  second_is_there.set_value();
  ASSERT_TRUE(settled_.wait());

  EXPECT_EQ(loader_->epoch(), 2u);
  EXPECT_EQ(host_.size(), 1u);
  EXPECT_EQ(metrics_.counter("conclave_expert_worker_loads_total", "", {{"outcome", "ok"}}).value(),
            2);
}

TEST_F(ExpertLoaderTest, TakesNoOlderAssignment) {
  start();
  apply(first(3, 5));

  loader_->assign({first(1, 5)});
  loader_->assign({first(1, 4)});
  apply(first(2, 6));

  EXPECT_EQ(loader_->epoch(), 6u);
  EXPECT_EQ(host_.size(), 2u);
}

TEST_F(ExpertLoaderTest, RefusesBytesThatWereNotRegistered) {
  start();
  wire::Assignment assignment = first(3, 1);
  for (wire::AssignedExpert& expert : assignment.experts) {
    expert.sha256 = *model::expert_digest(model_.file, model_.config, {expert.layer, expert.index});
  }
  assignment.experts[1].sha256[31] ^= 1;

  apply(assignment);

  EXPECT_EQ(host_.size(), 2u);
  EXPECT_FALSE(host_.ready(model_.version).test(0, 1));
  EXPECT_THAT(loader_->problem(), HasSubstr("1 experts refused"));
  EXPECT_THAT(loader_->problem(), HasSubstr("expert (0, 1)"));
  EXPECT_THAT(loader_->problem(), HasSubstr("not those that were registered"));
  ASSERT_EQ(loader_->refused().size(), 1u);
  EXPECT_EQ(loader_->refused()[0].model, model_.version);
  EXPECT_EQ(loader_->refused()[0].layer, 0u);
  EXPECT_EQ(loader_->refused()[0].index, 1u);
  EXPECT_THAT(loader_->refused()[0].reason, HasSubstr("not those that were registered"));
  EXPECT_EQ(
      metrics_.counter("conclave_expert_worker_loads_total", "", {{"outcome", "refused"}}).value(),
      1);

  assignment.epoch = 2;
  assignment.experts.erase(assignment.experts.begin() + 1);
  apply(assignment);
  EXPECT_TRUE(loader_->refused().empty()) << "nobody wants it any more";
}

TEST_F(ExpertLoaderTest, HostsNoMoreThanItsMemory) {
  const std::size_t each = model_.expert({0, 0}).bytes();
  start({.memory_bytes = 3 * each + each / 2});

  apply(first(5, 1));

  EXPECT_EQ(host_.size(), 3u);
  EXPECT_THAT(loader_->problem(), HasSubstr("2 experts refused"));
  EXPECT_THAT(loader_->problem(), HasSubstr("bytes more"));
}

TEST_F(ExpertLoaderTest, LoadsTheFirstExpertsWithAllThreads) {
  std::size_t at_once = 0;  // calls of on_change_ that run, which never is two
  std::size_t calls = 0;
  on_change_ = [&](bool) {
    EXPECT_EQ(++at_once, 1u);
    ++calls;
    --at_once;
  };
  start({.threads = 4});
  wire::Assignment assignment = first(model_.experts(), 1);
  for (wire::AssignedExpert& expert : assignment.experts) {
    expert.sha256 = *model::expert_digest(model_.file, model_.config, {expert.layer, expert.index});
  }

  apply(assignment);

  EXPECT_EQ(loader_->problem(), "");
  EXPECT_EQ(host_.size(), model_.experts());
  EXPECT_EQ(calls, model_.experts() + 1);
}

TEST_F(ExpertLoaderTest, ThreadsTogetherHostNoMoreThanItsMemory) {
  const std::size_t each = model_.expert({0, 0}).bytes();
  start({.memory_bytes = 3 * each + each / 2, .threads = 4});

  apply(first(8, 1));

  EXPECT_EQ(host_.size(), 3u);
  EXPECT_THAT(loader_->problem(), HasSubstr("5 experts refused"));
}

TEST_F(ExpertLoaderTest, LoadsNothingOfWhatTheSystemHasNoMemoryFor) {
  std::uint64_t asked = 0;
  start({.check_memory = [&asked](std::uint64_t bytes) -> base::Status {
    asked = bytes;
    return base::fail(base::ErrorCode::kFailedPrecondition, "needs more than there is");
  }});

  apply(first(2, 1));

  EXPECT_GE(asked, 2 * model_.expert({0, 0}).bytes());
  EXPECT_EQ(host_.size(), 0u);
  EXPECT_THAT(loader_->problem(), HasSubstr("needs more than there is"));
}

TEST_F(ExpertLoaderTest, SaysHowFarItIs) {
  std::string half_way;
  on_change_ = [&](bool settled) {
    if (!settled && host_.size() == 1) half_way = loader_->problem();
  };
  start();

  apply(first(2, 1));

  EXPECT_EQ(half_way, "loading experts (50 %)");
}

TEST_F(ExpertLoaderTest, WhatHasNoRoomIsNotWrong) {
  start({.slots = 2});
  apply(first(3, 1));
  EXPECT_EQ(host_.size(), 2u);
  EXPECT_TRUE(loader_->refused().empty());
}

TEST_F(ExpertLoaderTest, HostsNoMoreThanItsSlots) {
  start({.slots = 2});

  apply(first(4, 1));

  EXPECT_EQ(host_.size(), 2u);
  EXPECT_THAT(loader_->problem(), HasSubstr("slots are taken"));
}

TEST_F(ExpertLoaderTest, MakesRoomBeforeItLoads) {
  const std::size_t each = model_.expert({0, 0}).bytes();
  start({.memory_bytes = 2 * each});
  apply(first(2, 1));
  wire::Assignment others = first(4, 2);
  others.experts.erase(others.experts.begin(), others.experts.begin() + 2);

  apply(others);

  EXPECT_EQ(loader_->problem(), "");
  EXPECT_TRUE(host_.ready(model_.version).test(0, 3));
}

TEST_F(ExpertLoaderTest, LoadsTheRestIfTheModelHasNotAllThatIsListed) {
  start();
  wire::Assignment assignment = first(2, 1);
  assignment.experts.insert(assignment.experts.begin(), {model_.config.layers, 0, {}});
  assignment.experts.insert(assignment.experts.begin(), {0, model_.config.gate.experts, {}});

  apply(assignment);

  EXPECT_EQ(host_.size(), 2u);
  EXPECT_THAT(loader_->problem(), HasSubstr("2 experts refused"));
}

TEST_F(ExpertLoaderTest, HostsOneVersionIfAnotherCannotBeOpened) {
  start();
  apply(first(2, 1));
  wire::Assignment missing = first(2, 2);
  missing.model = testkit::version_of("/no/such/file.gguf", "missing");

  loader_->assign({missing, first(2, 2)});
  ASSERT_TRUE(settled_.wait());

  EXPECT_THAT(loader_->problem(), HasSubstr("cannot open /no/such/file.gguf"));
  EXPECT_EQ(host_.ready(model_.version).count(), 2u);
}

TEST_F(ExpertLoaderTest, StartsAnewWithAnotherModel) {
  const TestModel other("qwen3moe-f32");
  start();
  apply(first(4, 1));

  wire::Assignment assignment = testkit::whole_assignment(2, other.version, other.config);
  assignment.experts.resize(1);
  apply(assignment);

  ASSERT_EQ(host_.hosted().size(), 1u);
  EXPECT_EQ(host_.hosted()[0].model, other.version);
  EXPECT_EQ(host_.size(), 1u);
  EXPECT_EQ(loader_->problem(), "");
}

TEST_F(ExpertLoaderTest, HostsSeveralVersionsWithinOneRoom) {
  const TestModel other("qwen3moe-f32");
  start({.slots = 5});
  wire::Assignment of_other = testkit::whole_assignment(1, other.version, other.config);
  of_other.experts.resize(2);

  loader_->assign({first(3, 1), of_other});
  ASSERT_TRUE(settled_.wait());

  EXPECT_EQ(loader_->problem(), "");
  EXPECT_EQ(host_.ready(model_.version).count(), 3u);
  EXPECT_EQ(host_.ready(other.version).count(), 2u);
  ASSERT_EQ(host_.hosted().size(), 2u);
  const std::size_t bytes = host_.bytes();

  of_other.epoch = 2;
  of_other.experts = testkit::whole_assignment(2, other.version, other.config).experts;
  of_other.experts.resize(4);
  loader_->assign({first(2, 2), of_other});
  ASSERT_TRUE(settled_.wait());
  EXPECT_EQ(host_.size(), 5u) << "six do not fit";
  EXPECT_THAT(loader_->problem(), HasSubstr("1 experts refused: "));
  EXPECT_GT(host_.bytes(), bytes);  // those of the other are the larger ones

  wire::Assignment none;
  none.epoch = 3;
  apply(none);
  EXPECT_EQ(host_.size(), 0u);
  EXPECT_EQ(host_.bytes(), 0u);
  EXPECT_TRUE(host_.hosted().empty());
  EXPECT_EQ(loader_->problem(), "");
}

TEST_F(ExpertLoaderTest, TriesAgainWhatFailed) {
  const std::string path = ::testing::TempDir() + "conclave-late-model.gguf";
  std::filesystem::remove(path);
  start({.retry = milliseconds(1)});
  wire::Assignment assignment = first(2, 1);
  assignment.model = testkit::version_of(path, "late");
  apply(assignment);
  EXPECT_THAT(loader_->problem(), HasSubstr("cannot open"));

  // First bytes that are no model, then the model, at once.
  std::ofstream(path) << "not a model";
  ASSERT_TRUE(settled_.wait());
  EXPECT_THAT(loader_->problem(), HasSubstr("cannot open"));
  std::filesystem::copy_file(model_.path, path + ".part");
  std::filesystem::rename(path + ".part", path);

  while (!loader_->problem().empty()) ASSERT_TRUE(settled_.wait());
  EXPECT_EQ(host_.size(), 2u);
  std::filesystem::remove(path);
}

TEST_F(ExpertLoaderTest, LoadsNothingOnceItIsStopped) {
  start();
  loader_->stop();

  loader_->assign({first(1, 1)});
  loader_->stop();

  EXPECT_EQ(host_.size(), 0u);
}

}  // namespace
}  // namespace conclave::expert_worker

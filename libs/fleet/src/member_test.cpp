#include "conclave/fleet/member.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>

#include "conclave/fleet/process.hpp"
#include "conclave/testkit/events.hpp"
#include "conclave/testkit/fake_scheduler.hpp"

namespace conclave::fleet {
namespace {

using std::chrono::milliseconds;
using testkit::Events;
using testkit::FakeScheduler;

constexpr const char* kNode = "worker-0";
// Nothing here waits for an interval, but where a test says so.
constexpr milliseconds kNever{3'600'000};

class MemberTest : public ::testing::Test {
 protected:
  MemberTest() : process_(*Process::create("", wire::NodeRole::kExpertWorker, {}, metrics_)) {
    fabric::NodeSettings settings;
    settings.reconnect_ms = 10;
    node_ = *fabric::Node::create(process_->context(), process_->system(),
                                  {kNode, wire::NodeRole::kExpertWorker, 7}, settings);
  }
  ~MemberTest() override {
    member_.reset();
    scheduler_.reset();
    node_.reset();
  }

  void start_scheduler() { scheduler_ = std::make_unique<FakeScheduler>(*process_); }

  void join(milliseconds interval = kNever, MemberCallbacks callbacks = {}) {
    if (!callbacks.report) {
      callbacks.report = [this] {
        wire::NodeReport report;
        report.epoch_seen = ++written_;
        return report;
      };
    }
    if (!callbacks.apply) {
      callbacks.apply = [this](wire::ReportReply reply) { replies_.add(std::move(reply)); };
    }
    auto member = Member::join(*node_, process_->system(), {"inproc://scheduler", interval},
                               std::move(callbacks), {});
    ASSERT_TRUE(member) << member.error().to_string();
    member_ = std::move(*member);
  }

  telemetry::Metrics metrics_;
  std::unique_ptr<Process> process_;
  std::unique_ptr<fabric::Node> node_;
  std::unique_ptr<FakeScheduler> scheduler_;
  std::atomic<std::uint64_t> written_{0};  // reports that the node was asked for
  Events<wire::ReportReply> replies_;
  std::unique_ptr<Member> member_;
};

TEST_F(MemberTest, ReportsAsSoonAsTheSchedulerIsThere) {
  join();
  start_scheduler();

  const auto report = scheduler_->wait_report(kNode);

  ASSERT_TRUE(report);
  EXPECT_EQ(report->role, wire::NodeRole::kExpertWorker);
  EXPECT_EQ(report->incarnation, 7u);
}

TEST_F(MemberTest, ReportsOnceAnInterval) {
  start_scheduler();
  join(milliseconds(5));

  for (std::uint64_t i = 1; i <= 4; ++i) {
    EXPECT_TRUE(scheduler_->wait_report(
        kNode, [i](const wire::NodeReport& report) { return report.epoch_seen == i; }));
  }
}

TEST_F(MemberTest, HandsOverWhatTheSchedulerAnswers) {
  start_scheduler();
  scheduler_->assign(kNode, {.epoch = 41, .model = {"demo", 1, "/model.gguf", ""}, .experts = {}});
  join();

  const auto reply = replies_.wait();

  ASSERT_TRUE(reply);
  ASSERT_EQ(reply->assignments.size(), 1u);
  EXPECT_EQ(reply->assignments[0].epoch, 41u);
  EXPECT_EQ(reply->assignments[0].model.uri, "/model.gguf");
}

TEST_F(MemberTest, ReportsAtOnceWhenSomethingChanged) {
  start_scheduler();
  join();
  ASSERT_TRUE(replies_.wait());

  member_->report_now();

  EXPECT_TRUE(replies_.wait());
  EXPECT_EQ(written_, 2u);
}

TEST_F(MemberTest, ManyChangesDuringAReportMakeOneMore) {
  start_scheduler();
  scheduler_->hold();
  join();
  ASSERT_TRUE(scheduler_->wait_report(kNode));

  for (int i = 0; i < 100; ++i) member_->report_now();
  scheduler_->release();
  ASSERT_TRUE(replies_.wait());
  ASSERT_TRUE(replies_.wait());

  // One more round shows that no third one was on its way.
  member_->report_now();
  ASSERT_TRUE(replies_.wait());
  EXPECT_EQ(written_, 3u);
}

TEST_F(MemberTest, ReportsWhenNudged) {
  start_scheduler();
  join();
  ASSERT_TRUE(replies_.wait());

  scheduler_->nudge(kNode);

  EXPECT_TRUE(replies_.wait());
}

TEST_F(MemberTest, IsInTouchForAsLongAsItsLease) {
  start_scheduler();
  join();
  EXPECT_FALSE(Member::join(*node_, process_->system(), {"no-address", kNever}, {}, {}));
  ASSERT_TRUE(replies_.wait());
  EXPECT_TRUE(member_->in_touch());

  scheduler_->set_lease(milliseconds(0));
  member_->report_now();
  ASSERT_TRUE(replies_.wait());

  EXPECT_FALSE(member_->in_touch());
}

TEST_F(MemberTest, FindsASchedulerThatCameBack) {
  start_scheduler();
  join();
  ASSERT_TRUE(replies_.wait());

  scheduler_.reset();
  start_scheduler();

  EXPECT_TRUE(scheduler_->wait_report(kNode));
  EXPECT_TRUE(replies_.wait());
}

TEST_F(MemberTest, GoesOnAfterAReportThatNobodyAnswered) {
  start_scheduler();
  scheduler_->hold();
  join();
  ASSERT_TRUE(scheduler_->wait_report(kNode));

  scheduler_.reset();  // the answer is lost with it
  start_scheduler();

  EXPECT_TRUE(replies_.wait());
}

TEST_F(MemberTest, NoCallbackRunsOnceItIsGone) {
  start_scheduler();
  auto gone = std::make_shared<std::atomic<bool>>(false);
  auto late = std::make_shared<std::atomic<int>>(0);
  MemberCallbacks callbacks;
  callbacks.report = [gone, late] {
    if (*gone) ++*late;
    return wire::NodeReport{};
  };
  callbacks.apply = [gone, late](wire::ReportReply) {
    if (*gone) ++*late;
  };
  join(milliseconds(1), std::move(callbacks));
  ASSERT_TRUE(scheduler_->wait_report(kNode));
  for (int i = 0; i < 50; ++i) member_->report_now();

  member_.reset();
  *gone = true;

  // What was on its way is over when the scheduler is.
  scheduler_.reset();
  EXPECT_EQ(*late, 0);
}

}  // namespace
}  // namespace conclave::fleet

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
// Nothing here waits for an interval, but where a test says so. A member reports once without being
// asked, soon after it joins, as it cannot know yet that its node is ready.
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
        report.state = wire::NodeState::kReady;
        report.epoch_seen = ++written_;
        return report;
      };
    }
    if (!callbacks.apply) {
      callbacks.apply = [this](wire::ReportReply reply) { replies_.add(std::move(reply)); };
    }
    auto member = Member::join(*node_, process_->system(), {schedulers_, interval, "rack-7"},
                               std::move(callbacks), {});
    ASSERT_TRUE(member) << member.error().to_string();
    member_ = std::move(*member);
  }

  std::vector<std::string> schedulers_{"inproc://scheduler"};
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

  // The first ones may have been made before the link was up, and be lost.
  const auto first = scheduler_->wait_report(kNode);
  ASSERT_TRUE(first);
  for (std::uint64_t i = 1; i <= 4; ++i) {
    const auto next = scheduler_->wait_report(kNode);
    ASSERT_TRUE(next);
    EXPECT_EQ(next->epoch_seen, first->epoch_seen + i);
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

  // More often than what is reported unasked.
  for (int i = 0; i < 3; ++i) {
    member_->report_now();
    ASSERT_TRUE(replies_.wait());
  }
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

  // One more round shows that no third one was on its way, but the one that comes unasked.
  member_->report_now();
  ASSERT_TRUE(replies_.wait());
  EXPECT_LE(written_, 4u);
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
  EXPECT_FALSE(Member::join(*node_, process_->system(), {{"no-address"}, kNever}, {}, {}));
  ASSERT_TRUE(replies_.wait());
  EXPECT_TRUE(member_->in_touch());

  scheduler_->set_lease(milliseconds(0));
  member_->report_now();
  ASSERT_TRUE(replies_.wait([](const wire::ReportReply& reply) { return reply.lease_ms == 0; }));

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

TEST_F(MemberTest, SaysWhereItStands) {
  start_scheduler();
  join();
  EXPECT_EQ(scheduler_->wait_report(kNode).value().zone, "rack-7");
}

TEST_F(MemberTest, GoesToTheNextSchedulerWhenOneEnds) {
  schedulers_ = {"inproc://scheduler", "inproc://other"};
  start_scheduler();
  join();
  ASSERT_TRUE(replies_.wait());
  FakeScheduler other(*process_, "inproc://other");

  scheduler_.reset();

  EXPECT_TRUE(other.wait_report(kNode));
  EXPECT_TRUE(replies_.wait());
}

TEST_F(MemberTest, FollowsTheLeaderThatAStandbyNames) {
  FakeScheduler leader(*process_, "inproc://leader");
  leader.lead(7);
  Events<fabric::LinkId> led;
  MemberCallbacks callbacks;
  callbacks.report = [] { return wire::NodeReport{}; };
  callbacks.apply = [this](wire::ReportReply reply) { replies_.add(std::move(reply)); };
  callbacks.led = [&led](fabric::LinkId link) { led.add(link); };
  start_scheduler();
  scheduler_->stand_by("inproc://leader", 7);
  join(milliseconds(5), std::move(callbacks));

  EXPECT_TRUE(leader.wait_report(kNode));
  const auto reply = replies_.wait();

  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->term, 7u);
  EXPECT_NE(led.wait().value(), 0u);

  // The one that led dies, and another one has its lease.
  leader.stand_by("inproc://scheduler", 8);
  scheduler_->lead(8);
  EXPECT_EQ(replies_.wait([](const wire::ReportReply& late) { return late.term == 8; })->term, 8u);
  member_.reset();
}

TEST_F(MemberTest, RefusesAListWithoutAnySchedulerOrWithTooMany) {
  for (const std::size_t count : {std::size_t{0}, MemberOptions::kSchedulersMax + 1}) {
    const std::vector<std::string> many(count, "inproc://scheduler");
    const auto member = Member::join(*node_, process_->system(), {many, kNever}, {}, {});
    ASSERT_FALSE(member);
    EXPECT_EQ(member.error().code, base::ErrorCode::kInvalidArgument);
  }
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

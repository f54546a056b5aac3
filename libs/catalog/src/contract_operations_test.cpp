// Work in progress, seen by every registry.
#include "contract.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using test::code_of;
using testing::ElementsAre;
using testing::Field;
using testing::SizeIs;

class OperationsContract : public test::ContractTest {
 protected:
  static constexpr std::int64_t kSilence = Operations::kSilenceMs;

  Operation begin(const std::string& id, const std::string& subject, std::int64_t now = kNow,
                  const std::string& owner = "registry-1/7") {
    return catalog_->begin_operation({id, "register", subject, "sum", owner}, now).value();
  }
  base::Status beat(const std::string& owner, const std::string& id, std::uint32_t percent,
                    std::int64_t now) {
    const OperationBeat beats[] = {{id, percent}};
    return catalog_->beat_operations(owner, beats, now);
  }
};

TEST_P(OperationsContract, GivesBackWhatWasBegunBeatenAndEnded) {
  Operation expected{"op-1", "register", "m",  "registry-1/7", OperationState::kRunning,
                     0,      {},         kNow, kNow,           0};
  EXPECT_EQ(begin("op-1", "m"), expected);

  ASSERT_TRUE(beat("registry-1/7", "op-1", 40, kNow + 1000));

  expected.percent = 40;
  expected.beat_unix_ms = kNow + 1000;
  EXPECT_EQ(catalog_->find_operation("op-1", kNow + 1000).value(), expected);

  expected.state = OperationState::kDone;
  expected.percent = 100;
  expected.outcome.result = R"({"version":1})";
  expected.ended_unix_ms = kNow + 2000;
  EXPECT_EQ(catalog_->end_operation("op-1", "registry-1/7", expected.outcome, kNow + 2000).value(),
            expected);
  // Again, after an answer that got lost: as it was.
  EXPECT_EQ(catalog_->end_operation("op-1", "registry-1/7", {{}, "x", "y"}, kNow + 9000).value(),
            expected);
  EXPECT_EQ(catalog_->find_operation("op-1", kNow + 1'000'000).value(), expected);
  EXPECT_EQ(revision(), 0u);  // neither audited nor a change
}

TEST_P(OperationsContract, TheSameWorkIsBegunOnce) {
  begin("op-1", "m");
  EXPECT_EQ(begin("op-2", "m", kNow + 1, "registry-2/9").id, "op-1");
  EXPECT_EQ(begin("op-3", "other").id, "op-3");
  EXPECT_EQ(catalog_->begin_operation({"op-4", "register", "m", "other", "r/1"}, kNow).value().id,
            "op-4");
  ASSERT_TRUE(catalog_->end_operation("op-1", "registry-1/7", {"{}", {}, {}}, kNow));
  EXPECT_EQ(begin("op-5", "m").id, "op-5");  // it is over: this is another one
  EXPECT_EQ(begin("op-5", "m").id, "op-5");  // a transaction that is repeated finds its own
}

TEST_P(OperationsContract, WhoFallsSilentIsInterrupted) {
  begin("op-1", "m");
  begin("op-2", "n");
  ASSERT_TRUE(beat("registry-1/7", "op-1", 40, kNow + kSilence));

  const Operation alive = catalog_->find_operation("op-1", kNow + kSilence + 1).value();
  const Operation silent = catalog_->find_operation("op-2", kNow + kSilence + 1).value();

  EXPECT_EQ(alive.state, OperationState::kRunning);
  EXPECT_EQ(silent.state, OperationState::kFailed);
  EXPECT_EQ(silent.outcome.error_code, kInterrupted);
  EXPECT_EQ(silent.ended_unix_ms, kNow);
  EXPECT_EQ(begin("op-3", "n", kNow + kSilence + 1, "registry-2/9").id, "op-3");
  // Whoever beats next writes it down: an earlier clock does not bring it back.
  ASSERT_TRUE(catalog_->beat_operations("registry-2/9", {}, kNow + kSilence + 1));
  EXPECT_EQ(catalog_->find_operation("op-2", kNow).value(), silent);
}

TEST_P(OperationsContract, WhoWasOnlyCutOffStillSaysWhatCameOfIt) {
  begin("op-1", "m");
  ASSERT_TRUE(catalog_->beat_operations("registry-2/9", {}, kNow + kSilence + 1));
  ASSERT_EQ(catalog_->find_operation("op-1", kNow).value().outcome.error_code, kInterrupted);

  ASSERT_TRUE(beat("registry-1/7", "op-1", 90, kNow + 2 * kSilence));  // too late to keep it
  EXPECT_EQ(catalog_->find_operation("op-1", kNow).value().outcome.error_code, kInterrupted);
  const auto ended =
      catalog_->end_operation("op-1", "registry-1/7", {"{}", {}, {}}, kNow + 3 * kSilence);

  EXPECT_EQ(ended.value().state, OperationState::kDone);
  EXPECT_EQ(catalog_->find_operation("op-1", kNow).value(), *ended);
}

TEST_P(OperationsContract, ANewLifeKnowsThatItsFormerOnesAreOver) {
  begin("op-1", "a", kNow, "registry-1/7");
  begin("op-2", "b", kNow, "registry-1/8");
  begin("op-3", "c", kNow, "registry-10/7");

  ASSERT_TRUE(catalog_->interrupt_former("registry-1/8", kNow + 1));

  EXPECT_EQ(catalog_->find_operation("op-1", kNow).value().outcome.error_code, kInterrupted);
  EXPECT_EQ(catalog_->find_operation("op-2", kNow).value().state, OperationState::kRunning);
  EXPECT_EQ(catalog_->find_operation("op-3", kNow).value().state, OperationState::kRunning);
  EXPECT_EQ(code_of(catalog_->interrupt_former("nobody", kNow)), ErrorCode::kInvalidArgument);
}

TEST_P(OperationsContract, OnlyItsOwnerEndsIt) {
  begin("op-1", "m");
  EXPECT_EQ(code_of(catalog_->end_operation("op-1", "registry-2/9", {}, kNow)),
            ErrorCode::kNotFound);
  EXPECT_EQ(code_of(catalog_->end_operation("op-2", "registry-1/7", {}, kNow)),
            ErrorCode::kNotFound);
  ASSERT_TRUE(beat("registry-2/9", "op-1", 90, kNow));
  EXPECT_EQ(catalog_->find_operation("op-1", kNow).value().percent, 0u);
}

TEST_P(OperationsContract, KeepsABoundedNumberOfThoseThatEnded) {
  for (std::size_t i = 0; i < kOperationsKept + 3; ++i) {
    const std::string id = "op-" + std::to_string(i);
    begin(id, id, kNow + static_cast<std::int64_t>(i));
    ASSERT_TRUE(catalog_->end_operation(id, "registry-1/7", {"{}", {}, {}},
                                        kNow + static_cast<std::int64_t>(i)));
  }
  begin("op-last", "m", kNow + 5000);

  EXPECT_EQ(code_of(catalog_->find_operation("op-2", kNow)), ErrorCode::kNotFound);
  EXPECT_TRUE(catalog_->find_operation("op-3", kNow));
  EXPECT_THAT(catalog_->list_operations(2, kNow + 5000).value(),
              ElementsAre(Field(&Operation::id, "op-last"),
                          Field(&Operation::id, "op-" + std::to_string(kOperationsKept + 2))));
  EXPECT_THAT(catalog_->list_operations(1000, kNow).value(), SizeIs(kOperationsKept + 1));
}

TEST_P(OperationsContract, RefusesWhatIsNone) {
  EXPECT_EQ(code_of(catalog_->begin_operation({"", "a", "b", "", "o"}, kNow)),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(catalog_->begin_operation({"op", "a", "b", "", ""}, kNow)),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(catalog_->begin_operation({"op", "a", "\xff", "", "o"}, kNow)),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(catalog_->list_operations(0, kNow)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(catalog_->find_operation("op-1", kNow)), ErrorCode::kNotFound);
}

INSTANTIATE_TEST_SUITE_P(Stores, OperationsContract, testing::ValuesIn(test::stores()),
                         test::name_of);

}  // namespace
}  // namespace conclave::catalog

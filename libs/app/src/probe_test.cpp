#include "probe.hpp"

#include <gmock/gmock.h>

#include <mutex>

namespace conclave::app {
namespace {

using base::ErrorCode;
using testing::HasSubstr;

struct ProbeTest : testing::Test {
  telemetry::Metrics metrics;
  std::mutex mutex;
  base::Status ready = base::fail(ErrorCode::kUnavailable, "no placement yet");
  Admin admin =
      Admin::start({"127.0.0.1", 0}, {[this] {
                                        const std::lock_guard lock(mutex);
                                        return ready;
                                      },
                                      metrics, "router", "router-1", "1.2.3",
                                      [] { return std::chrono::system_clock::time_point(); }})
          .value();
};

TEST_F(ProbeTest, HealthIsOkAsLongAsTheProcessAnswers) {
  EXPECT_TRUE(run_probe(Probe::kHealth, {"127.0.0.1", admin.port()}).has_value());
}

TEST_F(ProbeTest, ReadySaysWhyNotAndThenThatItIs) {
  const auto not_yet = run_probe(Probe::kReady, {"127.0.0.1", admin.port()});
  ASSERT_FALSE(not_yet.has_value());
  EXPECT_EQ(not_yet.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(not_yet.error().message, HasSubstr("no placement yet"));
  {
    const std::lock_guard lock(mutex);
    ready = {};
  }

  EXPECT_TRUE(run_probe(Probe::kReady, {"127.0.0.1", admin.port()}).has_value());
}

TEST_F(ProbeTest, AsksAProcessThatListensOnEveryInterface) {
  EXPECT_TRUE(run_probe(Probe::kHealth, {"0.0.0.0", admin.port()}).has_value());
}

TEST(ProbeFailureTest, NamesTheAddressWhereNobodyAnswers) {
  std::uint16_t port = 0;
  {
    telemetry::Metrics metrics;
    port = Admin::start({"127.0.0.1", 0}, {[] { return base::Status(); }, metrics, "", "", "", {}})
               .value()
               .port();
  }

  const auto status = run_probe(Probe::kHealth, {"127.0.0.1", port});

  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(status.error().message, HasSubstr("127.0.0.1:" + std::to_string(port)));
}

TEST(ProbeFailureTest, RefusesAPortThatNobodyCanGuess) {
  const auto status = run_probe(Probe::kHealth, {"127.0.0.1", 0});

  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
}

TEST(ProbeFailureTest, KnowsItsTwoWordsOnly) {
  EXPECT_EQ(probe_of("health"), Probe::kHealth);
  EXPECT_EQ(probe_of("ready"), Probe::kReady);
  EXPECT_EQ(probe_of("--health"), std::nullopt);
  EXPECT_EQ(probe_of(""), std::nullopt);
}

}  // namespace
}  // namespace conclave::app

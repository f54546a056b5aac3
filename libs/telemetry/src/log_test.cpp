#include "conclave/telemetry/log.hpp"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>
#include <limits>
#include <thread>
#include <vector>

namespace conclave::telemetry {
namespace {

using std::chrono::microseconds;
using std::chrono::seconds;
using std::chrono::system_clock;
using testing::EndsWith;
using testing::IsEmpty;
using testing::SizeIs;

struct LogTest : testing::Test {
  std::vector<std::string> lines;

  Logger logger(Level level, LogFormat format) {
    return Logger::create(
        "router", {level, format}, [this](std::string_view line) { lines.emplace_back(line); },
        [] { return system_clock::time_point(seconds(1'767'225'601) + microseconds(42)); });
  }
  Logger json() { return logger(Level::kTrace, LogFormat::kJson); }

  // A line must be one line, and parse.
  boost::json::object last() {
    EXPECT_EQ(lines.back().find('\n'), std::string::npos);
    return boost::json::parse(lines.back()).as_object();
  }
};

TEST_F(LogTest, WritesOneJsonObjectAnEvent) {
  json().info("expert_ready", {{"layer", 3}, {"expert", 7u}, {"request_id", std::string("req-1")}});
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_EQ(lines[0], R"({"ts":"2026-01-01T00:00:01.000042Z","level":"info","logger":"router",)"
                      R"("event":"expert_ready","layer":3,"expert":7,"request_id":"req-1"})");
}

TEST_F(LogTest, KeepsTheTypesOfFields) {
  json().warn("values", {{"least", std::numeric_limits<std::int64_t>::min()},
                         {"most", std::numeric_limits<std::uint64_t>::max()},
                         {"ratio", 0.1},
                         {"ok", true},
                         {"letter", "x"},
                         {"nan", std::numeric_limits<double>::quiet_NaN()}});
  const boost::json::object line = last();
  EXPECT_EQ(line.at("least").as_int64(), std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(line.at("most").as_uint64(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(line.at("ratio").as_double(), 0.1);
  EXPECT_TRUE(line.at("ok").as_bool());
  EXPECT_EQ(line.at("letter").as_string(), "x");
  EXPECT_EQ(line.at("nan").as_string(), "nan");
  EXPECT_EQ(line.at("level").as_string(), "warn");
}

TEST_F(LogTest, EscapesTextAndRepairsBadUtf8) {
  json().error("bad", {{"text", "a\"b\\c\nd\x01"}, {"bytes", "\xff\xc3"}, {"utf8", "héé"}});
  const boost::json::object line = last();
  EXPECT_EQ(line.at("text").as_string(), "a\"b\\c\nd\x01");
  EXPECT_EQ(line.at("bytes").as_string(), "\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(line.at("utf8").as_string(), "héé");
}

TEST_F(LogTest, CutsLongValuesBetweenCharacters) {
  std::string text(kLogValueBytesMax - 1, 'x');
  text += "é and much more";
  json().info("long", {{"text", text}});
  EXPECT_EQ(last().at("text").as_string(), std::string(kLogValueBytesMax - 1, 'x') + "...");
}

TEST_F(LogTest, WritesReadableTextForPeople) {
  logger(Level::kInfo, LogFormat::kText)
      .info("expert_ready",
            {{"layer", 3}, {"why", "two words"}, {"empty", ""}, {"trick", "a\nlevel=error"}});
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_THAT(lines[0], EndsWith("info  router  expert_ready layer=3 why=\"two words\" empty=\"\" "
                                 "trick=\"a\\nlevel=error\""));
  EXPECT_THAT(lines[0], testing::MatchesRegex("[0-9:]+ info .*"));
}

TEST_F(LogTest, BindsFieldsAndNamesChildren) {
  const Logger parent = json().with({{"node", "router-1"}});
  const Logger child = parent.named("dispatch").with({{"request_id", "r"}});
  child.info("sent", {{"rows", 2}});
  EXPECT_THAT(lines.back(), EndsWith(R"("logger":"router.dispatch","event":"sent",)"
                                     R"("node":"router-1","request_id":"r","rows":2})"));
  parent.info("sent");
  EXPECT_THAT(lines.back(), EndsWith(R"("logger":"router","event":"sent","node":"router-1"})"));
}

TEST_F(LogTest, LeavesOutWhatIsBelowTheLevel) {
  const Logger log = logger(Level::kWarn, LogFormat::kJson);
  log.trace("no");
  log.debug("no");
  log.info("no");
  EXPECT_FALSE(log.enabled(Level::kInfo));
  EXPECT_THAT(lines, IsEmpty());
  log.warn("yes");
  log.error("yes");
  EXPECT_THAT(lines, SizeIs(2));
}

TEST_F(LogTest, OffAndADefaultLoggerWriteNothing) {
  const Logger off = logger(Level::kOff, LogFormat::kJson);
  off.error("no");
  off.log(Level::kOff, "no");
  EXPECT_THAT(lines, IsEmpty());
  const Logger none;
  none.named("child").with({{"a", 1}}).error("no");
  EXPECT_FALSE(none.enabled(Level::kError));
}

TEST_F(LogTest, KeepsLinesOfManyThreadsWhole) {
  const Logger log = json();
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([log, t] {
        for (int i = 0; i < 200; ++i) log.info("event", {{"thread", t}, {"i", i}});
      });
    }
  }
  ASSERT_THAT(lines, SizeIs(800));
  for (const std::string& line : lines) {
    EXPECT_EQ(boost::json::parse(line).as_object().at("event").as_string(), "event");
  }
}

TEST_F(LogTest, WritesToStderrOnceALine) {
  testing::internal::CaptureStderr();
  const Logger log = Logger::create("worker", {});  // no terminal here: json
  log.info("one");
  log.info("two");
  const std::string text = testing::internal::GetCapturedStderr();
  const std::size_t end = text.find('\n');
  ASSERT_NE(end, std::string::npos);
  EXPECT_EQ(boost::json::parse(text.substr(0, end)).at("event").as_string(), "one");
  EXPECT_EQ(boost::json::parse(text.substr(end + 1)).at("event").as_string(), "two");
  EXPECT_EQ(text.back(), '\n');
}

}  // namespace
}  // namespace conclave::telemetry

#include "conclave/telemetry/trace.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <set>

#include "otlp.hpp"

namespace conclave::telemetry {
namespace {

using namespace std::chrono_literals;
using SteadyTime = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::system_clock::time_point;

// A port of the loopback where nobody listens: 1 takes privileges.
constexpr const char* kNobody = "http://127.0.0.1:1";

Tracer::Process process(std::uint64_t seed = 1) {
  return {"node-1", "1.2.3", [] { return SteadyTime(10s); }, [] { return WallTime(1'000'000s); },
          seed};
}

Tracer tracer(Metrics& metrics, double ratio, TraceSettings settings = {}) {
  settings.endpoint = kNobody;
  settings.sample_ratio = ratio;
  settings.timeout_ms = 100;
  return *Tracer::create(settings, process(), metrics);
}

double spans(Metrics& metrics, const char* outcome) {
  return metrics.counter("conclave_trace_spans_total", "", {{"outcome", outcome}}).value();
}

SpanContext context(std::uint8_t first, std::uint8_t flags = 1) {
  return {{first, 2}, {3, 4}, flags};
}

TEST(TracerTest, IsOffWithoutAnEndpoint) {
  Metrics metrics;
  const Tracer off = *Tracer::create({}, process(), metrics);
  EXPECT_FALSE(off.enabled());
  EXPECT_FALSE(off.of("router").enabled());
  EXPECT_TRUE(off.enter({}).empty());
  EXPECT_TRUE(off.enter(context(1)).empty());
  off.record({.context = context(1)});
  EXPECT_EQ(spans(metrics, "dropped") + spans(metrics, "failed"), 0);
}

TEST(TracerTest, RefusesEndpointsThatAreNoAddress) {
  Metrics metrics;
  for (const char* endpoint : {"collector:4318", "ftp://collector", "file:///etc/passwd"}) {
    TraceSettings settings;
    settings.endpoint = endpoint;
    EXPECT_EQ(Tracer::create(settings, process(), metrics).error().code,
              base::ErrorCode::kInvalidArgument)
        << endpoint;
  }
}

TEST(TracerTest, FollowsItsParentAndElseTheRatio) {
  Metrics metrics;
  const Tracer never = tracer(metrics, 0);
  const Tracer always = tracer(metrics, 1);

  EXPECT_TRUE(never.enter({}).empty());
  EXPECT_TRUE(always.enter({}).sampled());
  EXPECT_TRUE(always.enter(context(1, 0)).empty()) << "the client said no";
  const SpanContext below = never.enter(context(1, 1));
  EXPECT_TRUE(below.sampled()) << "the client said yes";
  EXPECT_EQ(below.trace_id, context(1).trace_id);
  EXPECT_NE(below.span_id, context(1).span_id);
  EXPECT_TRUE(always.child({}).empty()) << "only the edge begins traces";
}

TEST(TracerTest, TracesAboutAsManyAsTheRatioSays) {
  Metrics metrics;
  const Tracer some = tracer(metrics, 0.25);
  int traced = 0;
  for (int i = 0; i < 4000; ++i) traced += some.enter({}).sampled() ? 1 : 0;
  EXPECT_NEAR(traced, 1000, 150);
}

TEST(TracerTest, DrawsNoIdentifierTwice) {
  Metrics metrics;
  const Tracer always = tracer(metrics, 1);
  std::set<std::array<std::uint8_t, 16>> traces;
  std::set<std::array<std::uint8_t, 8>> ids;
  for (int i = 0; i < 1000; ++i) {
    const SpanContext drawn = always.enter({});
    traces.insert(drawn.trace_id);
    ids.insert(drawn.span_id);
    ids.insert(always.child(drawn).span_id);
  }
  EXPECT_EQ(traces.size(), 1000u);
  EXPECT_EQ(ids.size(), 2000u);
}

TEST(TracerTest, DropsAndCountsWhatHasNoRoomAndWhatNobodyTakes) {
  Metrics metrics;
  TraceSettings settings;
  settings.queue_max = 2;
  {
    const Tracer always = tracer(metrics, 1, settings);
    for (int i = 0; i < 5; ++i) always.record({.context = always.enter({}), .name = "a"});
    always.record({.name = "not recorded"});
    EXPECT_EQ(spans(metrics, "dropped"), 3);
  }  // the end does not wait for more spans
  EXPECT_EQ(spans(metrics, "failed"), 2);
  EXPECT_EQ(spans(metrics, "exported"), 0);
}

TEST(OtlpTest, WritesSpansByServiceAsTheProtocolsJson) {
  Recorded recorded{{.context = context(0xab),
                     .parent_id = {0xcd},
                     .name = "generate",
                     .kind = SpanKind::kServer,
                     .attributes = {{"text", std::string("a\"b")},
                                    {"number", std::int64_t{7}},
                                    {"share", 0.5},
                                    {"yes", true}},
                     .error = "no"},
                    std::make_shared<const std::string>("router"),
                    1'700'000'000'000'000'001,
                    1'700'000'000'000'000'002};
  Recorded root = recorded;
  root.span.parent_id = {};
  root.span.error.clear();
  root.service = std::make_shared<const std::string>("gateway");

  const auto json = boost::json::parse(otlp_json(std::vector{recorded, root}, "n", "1.0"));

  const auto& resources = json.at("resourceSpans").as_array();
  ASSERT_EQ(resources.size(), 2u);
  EXPECT_EQ(resources[0].at_pointer("/resource/attributes/0/value/stringValue"),
            "conclave-gateway");
  const auto& first = resources[0].at_pointer("/scopeSpans/0/spans/0");
  EXPECT_FALSE(first.as_object().contains("parentSpanId"));
  EXPECT_FALSE(first.as_object().contains("status"));
  EXPECT_EQ(resources[1].at_pointer("/resource/attributes/1/value/stringValue"), "n");
  EXPECT_EQ(resources[1].at_pointer("/scopeSpans/0/spans/0"), boost::json::parse(R"({
    "traceId": "ab020000000000000000000000000000", "spanId": "0304000000000000",
    "name": "generate", "kind": 2, "startTimeUnixNano": "1700000000000000001",
    "endTimeUnixNano": "1700000000000000002", "parentSpanId": "cd00000000000000",
    "attributes": [{"key": "text", "value": {"stringValue": "a\"b"}},
                   {"key": "number", "value": {"intValue": "7"}},
                   {"key": "share", "value": {"doubleValue": 0.5}},
                   {"key": "yes", "value": {"boolValue": true}}],
    "status": {"code": 2, "message": "no"}})"));
}

}  // namespace
}  // namespace conclave::telemetry

#include "stream_spans.hpp"

#include <gmock/gmock.h>

#include <boost/json.hpp>

namespace conclave::router {
namespace {

using namespace std::chrono_literals;
using telemetry::Tracer;
using Time = StreamSpans::TimePoint;

wire::TraceContext sampled(std::uint8_t first) {
  wire::TraceContext trace;
  trace.trace_id[0] = first;
  trace.span_id[0] = first;
  trace.flags = 1;
  return trace;
}

class StreamSpansTest : public testing::Test {
 protected:
  /// A tracer whose spans are in spans() once it and all that hold it are gone.
  Tracer tracer(std::uint32_t steps_max) {
    telemetry::TraceSettings settings;
    settings.endpoint = "http://nobody";
    settings.steps_max = steps_max;
    return *Tracer::create(settings,
                           {"router-1", "1", [this] { return now_; },
                            [] { return std::chrono::system_clock::time_point(1s); }, 1,
                            [this](const std::string& json) {
                              sent_ = boost::json::parse(json);
                              return true;
                            }},
                           metrics_);
  }
  StreamSpans spans(Tracer tracer) {
    return StreamSpans(std::move(tracer), [this] { return now_; });
  }
  const boost::json::array& sent() {
    return sent_.at_pointer("/resourceSpans/0/scopeSpans/0/spans").as_array();
  }

  Time now_{100s};
  telemetry::Metrics metrics_;
  boost::json::value sent_;
};

TEST_F(StreamSpansTest, RecordsAStreamAndItsFirstStepsBelowIt) {
  {
    StreamSpans spans = this->spans(tracer(2));
    spans.opened(7, sampled(1), 1, 30);
    for (int step = 0; step < 3; ++step) {
      const wire::TraceContext carried = spans.begin_step();
      EXPECT_EQ(carried.empty(), step == 2) << "no more steps than the settings say";
      now_ += 10ms;
      spans.token(7);
      spans.end_step();
    }
    spans.closed(7, "");
    spans.closed(7, "twice");
  }
  ASSERT_EQ(sent().size(), 3u);
  const auto& stream = sent()[2];
  EXPECT_EQ(stream.at("name"), "generate");
  EXPECT_EQ(stream.at("parentSpanId"), "0100000000000000");
  EXPECT_EQ(stream.at("traceId"), "01000000000000000000000000000000");
  EXPECT_EQ(stream.at_pointer("/attributes/2/value/intValue"), "3");
  EXPECT_NEAR(stream.at_pointer("/attributes/3/value/doubleValue").as_double(), 0.01, 1e-9);
  for (std::size_t step = 0; step < 2; ++step) {
    EXPECT_EQ(sent()[step].at("name"), "step");
    EXPECT_EQ(sent()[step].at("parentSpanId"), stream.at("spanId"));
    EXPECT_EQ(sent()[step].at_pointer("/attributes/0/value/boolValue"), step == 0);
  }
}

TEST_F(StreamSpansTest, AStepCarriesTheTraceOfTheOldestStreamWithStepsLeft) {
  StreamSpans spans = this->spans(tracer(1));
  spans.opened(8, sampled(2), 1, 1);
  spans.opened(7, sampled(1), 1, 1);
  EXPECT_EQ(spans.begin_step().trace_id, sampled(1).trace_id);
  spans.end_step();
  EXPECT_EQ(spans.begin_step().trace_id, sampled(2).trace_id);
  spans.end_step();
  EXPECT_TRUE(spans.begin_step().empty());
}

TEST_F(StreamSpansTest, SaysWhyStreamsFailed) {
  {
    StreamSpans spans = this->spans(tracer(0));
    spans.opened(7, sampled(1), 1, 1);
    spans.opened(8, sampled(2), 1, 1);
    spans.closed(7, "no experts");
    spans.all_closed("the router stops");
  }
  ASSERT_EQ(sent().size(), 2u);
  EXPECT_EQ(sent()[0].at_pointer("/status/message"), "no experts");
  EXPECT_EQ(sent()[1].at_pointer("/status/message"), "the router stops");
}

TEST_F(StreamSpansTest, WithoutTracingHereContextsPassThrough) {
  StreamSpans spans = this->spans({});
  EXPECT_TRUE(spans.begin_step().empty());
  spans.opened(7, sampled(1), 1, 1);
  for (int step = 0; step < 10; ++step) EXPECT_EQ(spans.begin_step(), sampled(1));
  spans.closed(7, "");
  EXPECT_TRUE(spans.begin_step().empty());
}

TEST_F(StreamSpansTest, WhatIsNotSampledIsNotRecorded) {
  {
    StreamSpans spans = this->spans(tracer(4));
    wire::TraceContext unsampled = sampled(1);
    unsampled.flags = 0;
    spans.opened(7, unsampled, 1, 1);
    spans.opened(8, {}, 1, 1);
    EXPECT_TRUE(spans.begin_step().empty());
    spans.closed(7, "");
    spans.closed(8, "");
  }
  EXPECT_TRUE(sent_.is_null());
}

}  // namespace
}  // namespace conclave::router

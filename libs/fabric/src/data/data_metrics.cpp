#include "data_metrics.hpp"

#include <string>

namespace conclave::fabric {

namespace {

std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::kOk:
      return "ok";
    case Outcome::kRefused:
      return "refused";
    case Outcome::kInvalid:
      return "invalid";
    case Outcome::kOverloaded:
      return "overloaded";
    case Outcome::kDeadline:
      return "deadline_exceeded";
    case Outcome::kUnavailable:
      return "unavailable";
    case Outcome::kCancelled:
      return "cancelled";
    case Outcome::kLate:
      return "late";
  }
  return "unknown";
}

}  // namespace

DataMetrics::DataMetrics(telemetry::Metrics& metrics, End end) {
  const std::string end_name = end == End::kClient ? "client" : "server";
  for (std::size_t i = 0; i < kRoads; ++i) {
    const std::string road(fabric::to_string(static_cast<Road>(i)));
    for (std::size_t j = 0; j < kOutcomes; ++j) {
      const std::string outcome(to_string(static_cast<Outcome>(j)));
      calls_[i][j] = &metrics.counter("conclave_fabric_data_calls_total",
                                      "Expert calls that ended, by end, road and outcome",
                                      {{"end", end_name}, {"road", road}, {"outcome", outcome}});
    }
    const auto bytes = [&](const char* direction) {
      return &metrics.counter("conclave_fabric_data_bytes_total",
                              "Payload bytes of expert calls and answers",
                              {{"end", end_name}, {"road", road}, {"direction", direction}});
    };
    out_[i] = bytes("out");
    in_[i] = bytes("in");
    links_[i] = &metrics.gauge("conclave_fabric_data_links", "Data links that are up, by road",
                               {{"end", end_name}, {"road", road}});
  }
}

}  // namespace conclave::fabric

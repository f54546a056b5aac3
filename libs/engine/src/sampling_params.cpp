#include "conclave/engine/sampling_params.hpp"

#include <algorithm>
#include <string>

namespace conclave::engine {

using base::ErrorCode;
using base::fail;

namespace {

constexpr float kBiasMax = 100.0f;

base::Status validate_bias(const std::vector<LogitBias>& biases) {
  if (biases.size() > kLogitBiasMax) {
    return fail(ErrorCode::kInvalidArgument, "logit-bias has " + std::to_string(biases.size()) +
                                                 " entries, at most " +
                                                 std::to_string(kLogitBiasMax) + " are taken");
  }
  std::vector<std::int32_t> tokens;
  for (const LogitBias& entry : biases) {
    if (!(entry.bias >= -kBiasMax && entry.bias <= kBiasMax)) {  // NaN is in no range
      return fail(ErrorCode::kInvalidArgument,
                  "logit-bias of token " + std::to_string(entry.token) + " must be -100 to 100");
    }
    tokens.push_back(entry.token);
  }
  std::sort(tokens.begin(), tokens.end());
  if (const auto twice = std::adjacent_find(tokens.begin(), tokens.end()); twice != tokens.end()) {
    return fail(ErrorCode::kInvalidArgument,
                "logit-bias names token " + std::to_string(*twice) + " twice");
  }
  return {};
}

}  // namespace

base::Status validate(const SamplingParams& params) {
  SamplingParams copy = params;
  base::Status status;
  copy.visit([&](const char* name, auto& value, auto least, auto most, const char*) {
    if (value >= least && value <= most) return;  // NaN is in no range
    status =
        fail(ErrorCode::kInvalidArgument, std::string(name) + " must be " + std::to_string(least) +
                                              " to " + std::to_string(most));
  });
  if (!status) return status;
  return validate_bias(params.logit_bias);
}

}  // namespace conclave::engine

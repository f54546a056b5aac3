// Any body: an error that can be told, or requests within the limits of the wire.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "client_headers.hpp"
#include "conclave/base/check.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/wire/limits.hpp"
#include "openai_request.hpp"

namespace {

using namespace conclave;  // NOLINT: a program of its own

void check(const gateway::ApiError& error) {
  CONCLAVE_CHECK(error.status == 400 || error.status == 404);
  CONCLAVE_CHECK(!error.message.empty() && !gateway::error_body(error).empty());
}

void check(const gateway::Parsed<gateway::GenerationRequest>& request) {
  if (!request) return check(request.error());
  CONCLAVE_CHECK(!request->prompts.empty());
  CONCLAVE_CHECK(request->prompts.size() <= gateway::kPromptsMax);
  for (const wire::Generate& prompt : request->prompts) {
    CONCLAVE_CHECK(prompt.choices >= 1 && prompt.choices <= wire::kChoicesMax);
    CONCLAVE_CHECK(prompt.stop.size() <= wire::kStopsMax);
    CONCLAVE_CHECK(prompt.stop_tokens.size() <= wire::kStopsMax);
    CONCLAVE_CHECK(prompt.sampling.logit_bias.size() <= gateway::kLogitBiasMax);
    CONCLAVE_CHECK(prompt.sampling.temperature >= 0.0f && prompt.sampling.temperature <= 2.0f);
    CONCLAVE_CHECK(prompt.sampling.top_p > 0.0f && prompt.sampling.top_p <= 1.0f);
    CONCLAVE_CHECK(base::utf8::valid(prompt.text));
    for (const std::int32_t token : prompt.tokens) CONCLAVE_CHECK(token >= 0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto random = [] { return std::uint64_t{1}; };
  check(gateway::parse_chat(body, random));
  check(gateway::parse_completion(body, random));
  if (const auto request = gateway::parse_tokenize(body); !request) check(request.error());
  if (const auto request = gateway::parse_detokenize(body); !request) check(request.error());
  (void)gateway::parse_traceparent(body);
  return 0;
}

// Any bytes as requests: the parser takes the same ones however they are cut, within its limits.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/check.hpp"
#include "request_parser.hpp"

namespace {

using conclave::http::ParserLimits;
using conclave::http::Request;
using conclave::http::RequestParser;

constexpr ParserLimits kLimits{.header_bytes_max = 1024, .body_bytes_max = 256};
constexpr std::size_t kRequestsMax = 64;

struct Outcome {
  std::vector<Request> requests;
  unsigned failure = 0;
};

/// As a connection does it: what was not taken is given again, with more behind it.
Outcome parse(std::string_view stream, const std::uint8_t* cuts) {
  RequestParser parser(kLimits);
  Outcome outcome;
  std::size_t begin = 0;
  for (std::size_t end = 0; end < stream.size();) {
    end = cuts == nullptr ? stream.size() : std::min(stream.size(), end + 1 + cuts[end] % 9U);
    while (begin < end) {
      const std::size_t taken = parser.feed(stream.substr(begin, end - begin));
      CONCLAVE_CHECK(taken <= end - begin);
      begin += taken;
      if (parser.state() == RequestParser::State::kFailed) {
        outcome.failure = parser.failure().status;
        return outcome;
      }
      if (parser.state() == RequestParser::State::kDone) {
        outcome.requests.push_back(parser.take());
        if (outcome.requests.size() == kRequestsMax) return outcome;
      } else if (taken == 0) {
        break;
      }
    }
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view stream(reinterpret_cast<const char*>(data), size);
  const Outcome whole = parse(stream, nullptr);
  const Outcome pieces = parse(stream, data);
  // A cut may only change how soon a failure is seen, and so which of several it is.
  CONCLAVE_CHECK((whole.failure != 0) == (pieces.failure != 0));
  CONCLAVE_CHECK(whole.requests.size() == pieces.requests.size());
  for (std::size_t i = 0; i < whole.requests.size(); ++i) {
    const Request& request = whole.requests[i];
    CONCLAVE_CHECK(request.body == pieces.requests[i].body);
    CONCLAVE_CHECK(request.headers == pieces.requests[i].headers);
    CONCLAVE_CHECK(request.path == pieces.requests[i].path);
    CONCLAVE_CHECK(request.body.size() <= kLimits.body_bytes_max);
    CONCLAVE_CHECK(request.method != "" && !request.path.empty());
  }
  return 0;
}

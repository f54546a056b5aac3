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

/// As a connection does it: what was not taken is given again, with more behind it.
std::vector<Request> parse(std::string_view stream, const std::uint8_t* cuts) {
  RequestParser parser(kLimits);
  std::vector<Request> requests;
  std::size_t begin = 0;
  for (std::size_t end = 0; end < stream.size();) {
    end = cuts == nullptr ? stream.size() : std::min(stream.size(), end + 1 + cuts[end] % 9U);
    while (begin < end) {
      const std::size_t taken = parser.feed(stream.substr(begin, end - begin));
      CONCLAVE_CHECK(taken <= end - begin);
      begin += taken;
      if (parser.state() == RequestParser::State::kFailed) {
        CONCLAVE_CHECK(parser.failure().status >= 400 && !parser.failure().message.empty());
        return requests;
      }
      if (parser.state() == RequestParser::State::kDone) {
        requests.push_back(parser.take());
        if (requests.size() == kRequestsMax) return requests;
      } else if (taken == 0) {
        break;
      }
    }
  }
  return requests;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view stream(reinterpret_cast<const char*>(data), size);
  const auto whole = parse(stream, nullptr);
  const auto pieces = parse(stream, data);
  // A cut may change how soon a failure is seen, but never which requests there are.
  CONCLAVE_CHECK(whole.size() == pieces.size());
  for (std::size_t i = 0; i < whole.size(); ++i) {
    const Request& request = whole[i];
    CONCLAVE_CHECK(request.body == pieces[i].body);
    CONCLAVE_CHECK(request.headers == pieces[i].headers);
    CONCLAVE_CHECK(request.path == pieces[i].path);
    CONCLAVE_CHECK(request.body.size() <= kLimits.body_bytes_max);
    CONCLAVE_CHECK(request.method != "" && !request.path.empty());
  }
  return 0;
}

#include "request_parser.hpp"

#include <algorithm>
#include <boost/beast/http/basic_parser.hpp>
#include <cstdint>
#include <optional>
#include <utility>

#include "ascii.hpp"
#include "conclave/base/check.hpp"

namespace conclave::http {
namespace {

namespace beast = boost::beast;
namespace wire = boost::beast::http;

// What a client announces is believed up to here; beyond, memory grows with what arrives.
constexpr std::size_t kBodyReserve = std::size_t{256} << 10;

// The shortest end of a chunked body, `0\r\n\r\n`: whatever part of one is still to come is at
// least that long. Beast asserts it, so it gets no fewer bytes.
constexpr std::size_t kChunkedEndBytes = 5;

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

class Parser final : public wire::basic_parser<true> {
 public:
  explicit Parser(const ParserLimits& limits) : limits_(limits) {
    header_limit(
        static_cast<std::uint32_t>(std::min<std::size_t>(limits.header_bytes_max, UINT32_MAX)));
    body_limit(limits.body_bytes_max);
    eager(true);
  }

  Request request;
  RequestParser::Failure failure;  // status 0: none of ours
  bool http_1_0 = false;
  bool chunked = false;
  bool expects_continue = false;
  bool header_done = false;

 private:
  void fail(unsigned status, std::string message, beast::error_code& ec) {
    failure = {status, std::move(message)};
    ec = wire::error::bad_value;
  }

  // Beast bounds the bytes that it sees at once, not those of a header that trickles in.
  bool count_header(std::size_t bytes, beast::error_code& ec) {
    header_bytes_ += bytes;
    if (header_bytes_ <= limits_.header_bytes_max) return true;
    ec = wire::error::header_limit;
    return false;
  }

  void on_request_impl(wire::verb, beast::string_view method, beast::string_view target,
                       int version, beast::error_code& ec) override {
    constexpr std::size_t kRest = 12;  // two spaces, HTTP/1.1 and the line end
    if (!count_header(method.size() + target.size() + kRest, ec)) return;
    http_1_0 = version == 10;
    request.method = view(method);
    if (request.method == "CONNECT") return fail(501, "This server is no proxy.", ec);
    set_target(view(target), ec);
  }

  void set_target(std::string_view target, beast::error_code& ec) {
    // The absolute form, as sent to proxies, must be understood too (RFC 9112 section 3.2.2).
    for (const std::string_view scheme : {"http://", "https://"}) {
      if (!starts_with_no_case(target, scheme)) continue;
      const auto path = target.find_first_of("/?", scheme.size());
      target = path == std::string_view::npos ? "/" : target.substr(path);
      if (target.front() == '?') request.path = "/";
      break;
    }
    const bool asterisk = target == "*" && request.method == "OPTIONS";
    const bool has_path = target.starts_with('/') || !request.path.empty() || asterisk;
    if (!has_path || target.find('#') != std::string_view::npos) {
      return fail(400, "The request target is malformed.", ec);
    }
    const auto question = target.find('?');
    if (request.path.empty()) request.path = target.substr(0, question);
    if (question != std::string_view::npos) request.query = target.substr(question + 1);
  }

  void on_field_impl(wire::field field, beast::string_view name, beast::string_view value,
                     beast::error_code& ec) override {
    if (header_done) return;  // a trailer: nothing that comes after the body changes the request
    constexpr std::size_t kRest = 4;  // colon, space and the line end
    if (!count_header(name.size() + value.size() + kRest, ec)) return;
    if (field == wire::field::transfer_encoding) check_transfer_encoding(view(value), ec);
    if (field == wire::field::content_length) check_content_length(view(value), ec);
    if (field == wire::field::host && ++hosts_ > 1) fail(400, "There are two Host fields.", ec);
    if (field == wire::field::expect) check_expect(view(value), ec);
    if (!ec) request.headers.push_back({std::string(view(name)), std::string(view(value))});
  }

  void check_transfer_encoding(std::string_view value, beast::error_code& ec) {
    if (http_1_0) return fail(400, "HTTP/1.0 has no Transfer-Encoding.", ec);
    chunked = true;
    if (equals_no_case(value, "chunked")) return;
    // Beast reads a list that does not end in `chunked` as no body at all; others may not.
    fail(501, "The only Transfer-Encoding known here is `chunked`.", ec);
  }

  // Beast takes lists and repetitions of the same number; another server may take the first.
  void check_content_length(std::string_view value, beast::error_code& ec) {
    if (++content_lengths_ > 1 || !std::all_of(value.begin(), value.end(), http::is_digit)) {
      fail(400, "Content-Length must be one number.", ec);
    }
  }

  void check_expect(std::string_view value, beast::error_code& ec) {
    if (!equals_no_case(value, "100-continue")) {
      return fail(417, "The only expectation known here is `100-continue`.", ec);
    }
    expects_continue = true;
  }

  void on_header_impl(beast::error_code& ec) override {
    if (hosts_ == 0 && !http_1_0) return fail(400, "There is no Host field.", ec);
    header_done = true;
  }

  void on_body_init_impl(const boost::optional<std::uint64_t>& length,
                         beast::error_code&) override {
    if (length) request.body.reserve(std::min<std::size_t>(*length, kBodyReserve));
  }

  std::size_t on_body_impl(beast::string_view part, beast::error_code&) override {
    request.body.append(part.data(), part.size());
    return part.size();
  }

  void on_chunk_header_impl(std::uint64_t, beast::string_view, beast::error_code&) override {}

  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view part,
                                 beast::error_code&) override {
    request.body.append(part.data(), part.size());
    return part.size();
  }

  void on_finish_impl(beast::error_code&) override {}
  void on_response_impl(int, beast::string_view, int, beast::error_code&) override {}

  const ParserLimits& limits_;
  std::size_t header_bytes_ = 0;
  unsigned hosts_ = 0;
  unsigned content_lengths_ = 0;
};

/// True if it is the version in the first line that is wrong, not the line.
bool names_other_version(std::string_view bytes) {
  constexpr std::string_view kName = " HTTP/";
  const auto line = bytes.substr(0, bytes.find_first_of("\r\n"));
  const auto at = line.rfind(kName);
  if (at == std::string_view::npos) return false;
  const auto version = line.substr(at + kName.size());
  return !version.empty() && http::is_digit(version.front()) && !version.starts_with("1.0") &&
         !version.starts_with("1.1");
}

RequestParser::Failure describe(const beast::error_code& ec, std::string_view bytes) {
  if (ec == wire::error::header_limit) return {431, "The request header is too large."};
  if (ec == wire::error::body_limit) return {413, "The request body is too large."};
  if (ec == wire::error::bad_version && names_other_version(bytes)) {
    return {505, "This server speaks HTTP/1.1."};
  }
  return {400, "The request is malformed: " + ec.message() + "."};
}

}  // namespace

struct RequestParser::Impl {
  ParserLimits limits;
  State state = State::kHeader;
  bool begun = false;
  Failure failure;
  std::optional<Parser> parser;
};

RequestParser::RequestParser(const ParserLimits& limits) : impl_(std::make_unique<Impl>()) {
  impl_->limits = limits;
  impl_->parser.emplace(impl_->limits);
}

RequestParser::~RequestParser() = default;

std::size_t RequestParser::feed(std::string_view bytes) {
  CONCLAVE_CHECK(state() == State::kHeader || state() == State::kBody);
  std::size_t taken = 0;
  if (!impl_->begun) {  // empty lines before a request are skipped (RFC 9112 section 2.2)
    while (bytes.substr(taken).starts_with("\r\n")) taken += 2;
    bytes.remove_prefix(taken);
    if (bytes.empty() || bytes == "\r") return taken;
    impl_->begun = true;
  }
  Parser& parser = *impl_->parser;
  while (!bytes.empty() &&
         !(parser.chunked && parser.header_done && bytes.size() < kChunkedEndBytes)) {
    beast::error_code ec;
    const std::size_t count = parser.put({bytes.data(), bytes.size()}, ec);
    if (ec && ec != wire::error::need_more) {
      impl_->failure = parser.failure.status != 0 ? std::move(parser.failure) : describe(ec, bytes);
      impl_->state = State::kFailed;
      return taken + count;
    }
    taken += count;
    bytes.remove_prefix(count);
    if (parser.is_done()) {
      impl_->state = State::kDone;
      return taken;
    }
    if (parser.header_done) impl_->state = State::kBody;
    if (ec || count == 0) break;
  }
  return taken;
}

RequestParser::State RequestParser::state() const { return impl_->state; }
bool RequestParser::begun() const { return impl_->begun; }
bool RequestParser::keep_alive() const { return impl_->parser->keep_alive(); }
bool RequestParser::http_1_0() const { return impl_->parser->http_1_0; }
bool RequestParser::expects_continue() const {
  return impl_->parser->expects_continue && !impl_->parser->http_1_0;
}
const RequestParser::Failure& RequestParser::failure() const { return impl_->failure; }

Request RequestParser::take() {
  CONCLAVE_CHECK(state() == State::kDone);
  Request request = std::move(impl_->parser->request);
  impl_->parser.emplace(impl_->limits);
  impl_->state = State::kHeader;
  impl_->begun = false;
  return request;
}

}  // namespace conclave::http

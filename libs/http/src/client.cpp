#include "conclave/http/client.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "ascii.hpp"

namespace conclave::http {
namespace {

using base::ErrorCode;

// The head of an answer; nothing that we talk to comes near it.
constexpr std::size_t kHeaderBytesMax = std::size_t{256} << 10;

struct EasyDelete {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct ListDelete {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using Easy = std::unique_ptr<CURL, EasyDelete>;
using List = std::unique_ptr<curl_slist, ListDelete>;

using OnChunk = std::function<bool(std::string_view)>;

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const auto first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

/// One request under way: what curl's callbacks write to.
class Transfer {
 public:
  Transfer(const ClientRequest& request, const OnChunk* on_chunk)
      : request_(request), on_chunk_(on_chunk), easy_(curl_easy_init()) {}

  base::Result<Response> perform() {
    if (!easy_) return base::fail(ErrorCode::kInternal, "curl cannot be set up");
    CONCLAVE_TRY_VOID(set_headers());
    set_request();
    set_callbacks();
    const CURLcode code = curl_easy_perform(easy_.get());
    if (code != CURLE_OK) return base::fail(describe(code));
    response_.status = status();
    response_.content_type = std::string(response_.header("Content-Type"));
    return std::move(response_);
  }

 private:
  template <class Value>
  void set(CURLoption option, Value value) {
    curl_easy_setopt(easy_.get(), option, value);
  }

  static bool one_line(std::string_view text) {
    return text.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos;
  }

  base::Status add_header(const std::string& line) {
    curl_slist* longer = curl_slist_append(headers_.get(), line.c_str());
    if (longer == nullptr) return base::fail(ErrorCode::kInternal, "no memory for a header");
    (void)headers_.release();
    headers_.reset(longer);
    return {};
  }

  base::Status set_headers() {
    for (const Header& header : request_.headers) {
      if (header.name.empty() || !one_line(header.name) || !one_line(header.value)) {
        return base::fail(ErrorCode::kInvalidArgument, "a header has a line break or no name");
      }
      // curl's way to send a field without a value.
      CONCLAVE_TRY_VOID(
          add_header(header.value.empty() ? header.name + ";" : header.name + ": " + header.value));
    }
    // curl would call a body a form.
    if (find_header(request_.headers, "Content-Type").empty()) {
      CONCLAVE_TRY_VOID(add_header("Content-Type:"));
    }
    // Services answer at once; waiting for `100 Continue` would only cost a round trip.
    return add_header("Expect:");
  }

  void set_request() {
    set(CURLOPT_URL, request_.url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_PROXY, "");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(request_.timeout.count()));
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request_.connect_timeout.count()));
    set(CURLOPT_ERRORBUFFER, error_.data());
    set(CURLOPT_HTTPHEADER, headers_.get());
    if (request_.method == "HEAD") set(CURLOPT_NOBODY, 1L);
    if (!request_.body.empty() || request_.method == "POST") {
      set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request_.body.size()));
      set(CURLOPT_POSTFIELDS, request_.body.data());
    }
    set(CURLOPT_CUSTOMREQUEST, request_.method.c_str());
  }

  void set_callbacks() {
    set(CURLOPT_WRITEFUNCTION, &Transfer::on_body);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_HEADERFUNCTION, &Transfer::on_header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_XFERINFOFUNCTION, &Transfer::on_progress);
    set(CURLOPT_XFERINFODATA, this);
    set(CURLOPT_NOPROGRESS, 0L);
  }

  [[nodiscard]] bool stopped() const { return request_.stop.stop_requested(); }

  unsigned status() {
    long value = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &value);
    return static_cast<unsigned>(value);
  }

  [[nodiscard]] bool connected() const {
    long connections = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_NUM_CONNECTS, &connections);
    return connections > 0;
  }

  // curl takes any other count than `size` as the wish to end.
  static std::size_t on_body(char* data, std::size_t, std::size_t size, void* context) {
    return static_cast<Transfer*>(context)->take_body({data, size}) ? size : size + 1;
  }
  static std::size_t on_header(char* data, std::size_t, std::size_t size, void* context) {
    return static_cast<Transfer*>(context)->take_header({data, size}) ? size : size + 1;
  }
  static int on_progress(void* context, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return static_cast<Transfer*>(context)->stopped() ? 1 : 0;
  }

  bool take_body(std::string_view data) {
    const unsigned code = status();
    if (on_chunk_ != nullptr && code >= 200 && code <= 299) {
      cancelled_ = !(*on_chunk_)(data);
      return !cancelled_;
    }
    too_large_ = response_.body.size() + data.size() > request_.body_bytes_max;
    if (too_large_) return false;
    response_.body.append(data);
    return true;
  }

  bool take_header(std::string_view line) {
    if (line.starts_with("HTTP/")) response_.headers.clear();  // a `100 Continue` came before
    header_bytes_ += line.size();
    too_large_ = header_bytes_ > kHeaderBytesMax;
    const auto colon = line.find(':');
    if (!line.starts_with("HTTP/") && colon != std::string_view::npos) {
      response_.headers.push_back(
          {std::string(line.substr(0, colon)), std::string(trim(line.substr(colon + 1)))});
    }
    return !too_large_;
  }

  base::Error describe(CURLcode code) const {
    const std::string reason = error_[0] != '\0' ? error_.data() : curl_easy_strerror(code);
    if (too_large_) {
      return {ErrorCode::kFailedPrecondition,
              "the answer exceeds " + std::to_string(request_.body_bytes_max) + " bytes"};
    }
    if (cancelled_ || stopped()) return {ErrorCode::kCancelled, "the request was stopped"};
    // Of an address it is our mistake; once connected, it is an answer without a status line.
    if (code == CURLE_UNSUPPORTED_PROTOCOL && connected()) return {ErrorCode::kCorruptData, reason};
    switch (code) {
      case CURLE_OPERATION_TIMEDOUT:
        return {ErrorCode::kDeadlineExceeded, reason};
      case CURLE_URL_MALFORMAT:
      case CURLE_UNSUPPORTED_PROTOCOL:
      case CURLE_BAD_FUNCTION_ARGUMENT:
        return {ErrorCode::kInvalidArgument, reason};
      case CURLE_WEIRD_SERVER_REPLY:
      case CURLE_BAD_CONTENT_ENCODING:
        return {ErrorCode::kCorruptData, reason};
      case CURLE_OUT_OF_MEMORY:
      case CURLE_FAILED_INIT:
        return {ErrorCode::kInternal, reason};
      default:
        return {ErrorCode::kUnavailable, reason};
    }
  }

  const ClientRequest& request_;
  const OnChunk* on_chunk_;  // none: keep every body
  Easy easy_;
  List headers_;
  std::array<char, CURL_ERROR_SIZE> error_{};
  Response response_;
  std::size_t header_bytes_ = 0;
  bool too_large_ = false;
  bool cancelled_ = false;
};

base::Result<Response> perform(const ClientRequest& request, const OnChunk* on_chunk) {
  // Once in a process; a function's static is initialised by one thread.
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (ready != CURLE_OK) return base::fail(ErrorCode::kInternal, "curl cannot be initialised");
  auto result = Transfer(request, on_chunk).perform();
  if (!result) return base::fail(result.error().within(request.method + " " + request.url));
  return result;
}

}  // namespace

base::Result<Response> fetch(const ClientRequest& request) { return perform(request, nullptr); }

base::Result<Response> stream(const ClientRequest& request, const OnChunk& on_chunk) {
  return perform(request, &on_chunk);
}

}  // namespace conclave::http

#include "transfer.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <string_view>
#include <utility>

#include "conclave/base/check.hpp"
#include "conclave/base/text.hpp"

namespace conclave::artifacts {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {

// Slower than this for `stall-timeout-ms` is as good as not at all.
constexpr long kSlowestBytes = 1024;
// Connections kept beside those in use: what a burst of ranges leaves behind.
constexpr std::size_t kIdleMax = 16;

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0) {
    text.remove_prefix(1);
  }
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) {
    text.remove_suffix(1);
  }
  return text;
}

// "bytes 0-9/100"
void read_content_range(std::string_view value, Answer& answer) {
  constexpr std::string_view kUnit = "bytes ";
  if (!value.starts_with(kUnit)) return;
  value.remove_prefix(kUnit.size());
  const std::size_t dash = value.find('-');
  const std::size_t slash = value.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || dash > slash) return;
  answer.first = number(value.substr(0, dash));
  answer.total = number(value.substr(slash + 1));
}

// One line of the head. Redirects and 100 Continue have heads of their own before the last one.
void read_line(std::string_view line, Answer& answer) {
  if (line.starts_with("HTTP/")) {
    answer = {};
    const std::size_t space = line.find(' ');
    if (space != std::string_view::npos) {
      answer.status = static_cast<long>(number(line.substr(space + 1, 3)).value_or(0));
    }
    return;
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return;
  std::string name(line.substr(0, colon));
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const std::string_view value = trimmed(line.substr(colon + 1));
  if (name == "etag") answer.etag = value;
  if (name == "last-modified") answer.last_modified = value;
  if (name == "content-encoding") answer.encoding = value;
  if (name == "content-range") read_content_range(value, answer);
  if (name == "content-length" && answer.status == 200) answer.total = number(value);
}

ErrorCode code_of(CURLcode code) {
  switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return ErrorCode::kInvalidArgument;
    case CURLE_TOO_MANY_REDIRECTS:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      return ErrorCode::kFailedPrecondition;
    case CURLE_OUT_OF_MEMORY:
      return ErrorCode::kOverloaded;
    default:
      return ErrorCode::kUnavailable;
  }
}

}  // namespace

struct Transfers::Handle {
  Handle() : curl(::curl_easy_init()) { CONCLAVE_CHECK(curl != nullptr); }
  ~Handle() { ::curl_easy_cleanup(curl); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  CURL* curl;
};

// What the callbacks of a transfer share.
struct Transfers::Running {
  const Get& get;
  Answer answer;
  bool is_judged = false;  // on_answer was asked
  bool is_enough = false;
  bool is_cancelled = false;
  Status outcome;
  char reason[CURL_ERROR_SIZE] = {};

  bool judge() {
    if (std::exchange(is_judged, true)) return outcome.has_value();
    outcome = get.on_answer(answer);
    return outcome.has_value();
  }

  static std::size_t on_head(char* data, std::size_t size, std::size_t count, void* self) {
    read_line({data, size * count}, static_cast<Running*>(self)->answer);
    return size * count;
  }

  static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* context) {
    auto* self = static_cast<Running*>(context);
    if (!self->judge()) return 0;
    const auto more = self->get.on_bytes(std::as_bytes(std::span(data, size * count)));
    if (!more) {
      self->outcome = fail(more.error());
      return 0;
    }
    self->is_enough = !*more;
    return *more ? size * count : 0;
  }

  static int on_progress(void* context, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    auto* self = static_cast<Running*>(context);
    self->is_cancelled = self->get.stop && self->get.stop();
    return self->is_cancelled ? 1 : 0;
  }
};

Transfers::Transfers(const Settings& settings) : settings_(settings) {
  ::curl_global_init(CURL_GLOBAL_DEFAULT);  // of any thread since 7.84; counts its calls
}

Transfers::~Transfers() {
  idle_.clear();
  ::curl_global_cleanup();
}

std::unique_ptr<Transfers::Handle> Transfers::take() {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<Handle>();
  std::unique_ptr<Handle> handle = std::move(idle_.back());
  idle_.pop_back();
  return handle;
}

void Transfers::give_back(std::unique_ptr<Handle> handle) {
  const std::lock_guard lock(mutex_);
  if (idle_.size() < kIdleMax) idle_.push_back(std::move(handle));
}

void Transfers::prepare(Handle& handle, const Get& get, Running& running) const {
  CURL* const curl = handle.curl;
  ::curl_easy_reset(curl);  // keeps the connection
  const auto set = [curl](CURLoption option, auto value) {
    CONCLAVE_CHECK(::curl_easy_setopt(curl, option, value) == CURLE_OK);
  };
  set(CURLOPT_URL, get.url.c_str());
  set(CURLOPT_PATH_AS_IS, 1L);
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  // A server that was asked in secret must not be able to make it public.
  set(CURLOPT_REDIR_PROTOCOLS_STR, get.url.starts_with("https") ? "https" : "http,https");
  set(CURLOPT_FOLLOWLOCATION, get.follows_redirects ? 1L : 0L);
  set(CURLOPT_MAXREDIRS, static_cast<long>(settings_.redirects_max));
  set(CURLOPT_PROXY, settings_.proxy.c_str());  // "": not even that of the environment
  if (!settings_.ca_file.empty()) set(CURLOPT_CAINFO, settings_.ca_file.c_str());
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_USERAGENT, "conclave");
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(settings_.connect_timeout.count()));
  set(CURLOPT_LOW_SPEED_LIMIT, kSlowestBytes);
  set(CURLOPT_LOW_SPEED_TIME, static_cast<long>((settings_.stall_timeout.count() + 999) / 1000));
  set(CURLOPT_ERRORBUFFER, running.reason);
  set(CURLOPT_HEADERFUNCTION, &Running::on_head);
  set(CURLOPT_HEADERDATA, &running);
  set(CURLOPT_WRITEFUNCTION, &Running::on_body);
  set(CURLOPT_WRITEDATA, &running);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, &Running::on_progress);
  set(CURLOPT_XFERINFODATA, &running);
}

Status Transfers::get(const Get& get) {
  Running running{get};
  std::unique_ptr<Handle> handle = take();
  prepare(*handle, get, running);
  curl_slist* fields = nullptr;
  for (const std::string& field : get.fields) fields = ::curl_slist_append(fields, field.c_str());
  ::curl_easy_setopt(handle->curl, CURLOPT_HTTPHEADER, fields);
  const CURLcode code = ::curl_easy_perform(handle->curl);
  ::curl_slist_free_all(fields);
  if (code == CURLE_OK) {
    running.judge();  // an answer without a body
    give_back(std::move(handle));
    return running.outcome;
  }
  if (running.is_cancelled) return fail(ErrorCode::kCancelled, "the transfer was cancelled");
  if (!running.outcome || running.is_enough) return running.outcome;
  const std::string reason =
      running.reason[0] != '\0' ? running.reason : ::curl_easy_strerror(code);
  return fail(code_of(code), base::printable(reason));
}

}  // namespace conclave::artifacts

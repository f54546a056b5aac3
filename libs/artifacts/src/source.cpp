#include "source.hpp"

#include <algorithm>
#include <condition_variable>
#include <optional>
#include <utility>
#include <vector>

#include "credentials.hpp"
#include "sigv4.hpp"

namespace conclave::artifacts {

using base::ErrorCode;
using base::fail;
using base::Result;
using base::Status;
using std::chrono::milliseconds;

namespace {

// Between two tries, doubled each time: a server that is overwhelmed gets room.
constexpr milliseconds kFirstPause{100};
constexpr milliseconds kLongestPause{5'000};
// How long a pause goes on before somebody who wants to stop is heard.
constexpr milliseconds kLook{100};
// A try that brought so much was none in vain, so that a file of any size comes over a bad line.
constexpr std::uint64_t kProgressBytes = std::uint64_t{64} << 10;

bool is_weak(std::string_view etag) { return etag.starts_with("W/"); }

bool may_help_again(ErrorCode code) { return code == ErrorCode::kUnavailable; }

std::string range_of(std::uint64_t offset, std::uint64_t size) {
  return "bytes=" + std::to_string(offset) + "-" + std::to_string(offset + size - 1);
}

// False: told to stop.
bool pause(milliseconds length, const Stop& stop) {
  std::mutex mutex;
  std::condition_variable never;
  std::unique_lock lock(mutex);
  const auto end = std::chrono::steady_clock::now() + length;
  while (std::chrono::steady_clock::now() < end) {
    if (stop && stop()) return false;
    never.wait_until(lock, std::min(end, std::chrono::steady_clock::now() + kLook));
  }
  return !(stop && stop());
}

// For an answer that is neither all nor a part of the file.
Status refused(long status) {
  const std::string text = "the server answers " + std::to_string(status);
  switch (status) {
    case 401:
    case 403:
      return fail(ErrorCode::kFailedPrecondition, text + ": no right to read it");
    case 404:
    case 410:
      return fail(ErrorCode::kNotFound, text);
    case 412:
      return fail(ErrorCode::kFailedPrecondition, "it is another file by now");
    case 408:
    case 425:
    case 429:
      return fail(ErrorCode::kUnavailable, text);
    default:
      break;
  }
  if (status >= 500) return fail(ErrorCode::kUnavailable, text);
  return fail(ErrorCode::kFailedPrecondition, text);
}

}  // namespace

SourceContext::SourceContext(const Settings& chosen, WallClock clock, telemetry::Metrics& metrics)
    : settings(chosen),
      wall_clock(std::move(clock)),
      transfers(chosen),
      bytes(metrics.counter("conclave_artifacts_fetched_bytes_total",
                            "Bytes of models fetched from http(s):// and s3://")),
      retries(metrics.counter("conclave_artifacts_retries_total",
                              "Transfers of models that were begun again where they broke")) {}

// A range that is being read.
struct Source::Reading {
  std::uint64_t offset = 0;  // of what is still to come
  std::uint64_t left = 0;
  const Sink& sink;
  const Stop& stop;
  std::uint64_t skip = 0;  // bytes of this answer that come before it
  bool is_whole = false;   // this answer goes on to the end of the file
};

Result<std::unique_ptr<Source>> Source::open(SourceContext& context, const Location& location,
                                             const Stop& stop) {
  std::unique_ptr<Source> source(new Source(context, location));
  const Status asked = source->persist([&] { return source->ask(stop); }, [] { return 0; }, stop);
  if (!asked) return fail(asked.error().within(location.shown()));
  return source;
}

Status Source::persist(const std::function<Status()>& attempt,
                       const std::function<std::uint64_t()>& progress, const Stop& stop) const {
  std::uint64_t before = progress();
  milliseconds wait = kFirstPause;
  for (std::uint32_t in_vain = 0;;) {
    if (stop && stop()) return fail(ErrorCode::kCancelled, "the transfer was cancelled");
    Status done = attempt();
    if (done || !may_help_again(done.error().code)) return done;
    const std::uint64_t now = progress();
    if (now - before >= kProgressBytes) {
      in_vain = 0;
      wait = kFirstPause;
      before = now;
    }
    if (in_vain++ >= context_.settings.retries) return done;
    context_.retries.add();
    if (!pause(wait, stop)) return fail(ErrorCode::kCancelled, "the transfer was cancelled");
    wait = std::min(2 * wait, kLongestPause);
  }
}

// ---- requests

Result<Get> Source::request(std::uint64_t offset, std::uint64_t size, const Stop& stop) const {
  const std::string range = range_of(offset, size);
  Get get;
  get.fields.push_back("Range: " + range);
  // Whoever heeds it sends no byte of another state; check_state() is for the others.
  if (!etag_.empty()) {
    get.fields.push_back("If-Match: " + etag_);
  } else if (!last_modified_.empty()) {
    get.fields.push_back("If-Unmodified-Since: " + last_modified_);
  }
  get.stop = stop;
  if (location_.scheme() == Location::Scheme::kS3) {
    CONCLAVE_TRY(const std::vector<std::string> fields, sign_s3(get, range));
    get.fields.insert(get.fields.end(), fields.begin(), fields.end());
    return get;
  }
  get.url = location_.text();
  get.follows_redirects = true;
  return get;
}

// A server of one's own has buckets in its paths; AWS has them in its names, but for those whose
// dots no certificate covers.
Result<std::vector<std::string>> Source::sign_s3(Get& get, std::string range) const {
  const Settings& settings = context_.settings;
  const std::string bucket = location_.bucket();
  std::string root = settings.s3_endpoint;
  while (root.ends_with('/')) root.pop_back();
  std::string path = "/" + encode_path(location_.key());
  if (!root.empty() || bucket.find('.') != std::string::npos) path = "/" + bucket + path;
  if (root.empty()) {
    const bool is_in_path = bucket.find('.') != std::string::npos;
    root = "https://" + (is_in_path ? "" : bucket + ".") + "s3." + settings.s3_region +
           ".amazonaws.com";
  }
  const std::size_t host = root.find("://");
  if (host == std::string::npos || root.find('/', host + 3) != std::string::npos) {
    return fail(ErrorCode::kFailedPrecondition,
                "artifacts.s3-endpoint must be http(s)://HOST[:PORT]");
  }
  get.url = root + path;
  CONCLAVE_TRY(const Credentials credentials, find_credentials(settings));
  if (credentials.key_id.empty()) return std::vector<std::string>{};
  return sign({.host = root.substr(host + 3),
               .path = std::move(path),
               .range = std::move(range),
               .region = settings.s3_region,
               .now = context_.wall_clock()},
              credentials);
}

// The first byte, whose answer says all the rest. Not HEAD: an address that is signed for GET has
// none.
Status Source::ask(const Stop& stop) {
  CONCLAVE_TRY(Get get, request(0, 1, stop));
  get.on_answer = [this](const Answer& answer) -> Status {
    if (answer.status == 416) return fail(ErrorCode::kCorruptData, "it is empty");
    if (answer.status != 200 && answer.status != 206) return refused(answer.status);
    if (!answer.encoding.empty() && answer.encoding != "identity") {
      return fail(ErrorCode::kUnimplemented, "the server sends it as " + answer.encoding);
    }
    if (!answer.total) return fail(ErrorCode::kUnimplemented, "the server does not say its size");
    if (answer.status == 206 && answer.first != 0) {
      return fail(ErrorCode::kUnimplemented, "the server sends another range than was asked for");
    }
    if (*answer.total == 0) return fail(ErrorCode::kCorruptData, "it is empty");
    size_ = *answer.total;
    has_ranges_ = answer.status == 206;
    if (!is_weak(answer.etag)) etag_ = answer.etag;
    last_modified_ = answer.last_modified;
    return {};
  };
  // A connection that has said all is used again.
  get.on_bytes = [this](std::span<const std::byte>) -> Result<bool> { return has_ranges_; };
  return context_.transfers.get(get);
}

// ---- reading

Status Source::read(std::uint64_t offset, std::uint64_t size, const Sink& sink,
                    const Stop& stop) const {
  if (size == 0) return {};
  Reading reading{offset, size, sink, stop};
  const Status done =
      persist([&] { return attempt(reading); }, [&] { return reading.offset; }, stop);
  if (done) return {};
  return fail(done.error().within(location_.shown() + ", byte " + std::to_string(reading.offset)));
}

Status Source::attempt(Reading& reading) const {
  CONCLAVE_TRY(Get get, request(reading.offset, reading.left, reading.stop));
  get.on_answer = [this, &reading](const Answer& answer) { return check(answer, reading); };
  get.on_bytes = [this, &reading](std::span<const std::byte> bytes) -> Result<bool> {
    if (reading.left == 0) return false;
    context_.bytes.add(static_cast<double>(bytes.size()));
    const std::size_t skipped = std::min<std::uint64_t>(reading.skip, bytes.size());
    reading.skip -= skipped;
    bytes = bytes.subspan(skipped);
    bytes = bytes.first(std::min<std::uint64_t>(bytes.size(), reading.left));
    CONCLAVE_TRY_VOID(reading.sink(bytes));
    reading.offset += bytes.size();
    reading.left -= bytes.size();
    return reading.left > 0 || !reading.is_whole;
  };
  CONCLAVE_TRY_VOID(context_.transfers.get(get));
  if (reading.left == 0) return {};
  return fail(ErrorCode::kUnavailable, "the server ended before the range did");
}

Status Source::check(const Answer& answer, Reading& reading) const {
  if (answer.status == 416) return fail(ErrorCode::kFailedPrecondition, "it is shorter by now");
  if (answer.status != 200 && answer.status != 206) return refused(answer.status);
  CONCLAVE_TRY_VOID(check_state(answer));
  reading.is_whole = answer.status == 200;
  reading.skip = reading.is_whole ? reading.offset : 0;
  if (reading.is_whole) return {};
  if (answer.first == reading.offset) return {};
  return fail(ErrorCode::kUnavailable, "the server sends another range than was asked for");
}

Status Source::check_state(const Answer& answer) const {
  const bool is_same = (!answer.total || *answer.total == size_) &&
                       (etag_.empty() || answer.etag.empty() || answer.etag == etag_) &&
                       (!etag_.empty() || last_modified_.empty() || answer.last_modified.empty() ||
                        answer.last_modified == last_modified_);
  if (is_same) return {};
  return fail(ErrorCode::kFailedPrecondition, "it is another file by now");
}

}  // namespace conclave::artifacts

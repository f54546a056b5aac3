// A server that models come from, and everything that one may do wrong. For tests.
#pragma once

#include <atomic>
#include <charconv>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "conclave/base/check.hpp"
#include "conclave/http/server.hpp"

namespace conclave::artifacts::test {

/// Serves one file under any path. What it does may be changed at any time.
class Origin {
 public:
  explicit Origin(std::string file) : file_(std::move(file)) {
    auto started = http::Server::start(
        {}, [this](std::shared_ptr<http::Exchange> exchange) { answer(exchange); });
    CONCLAVE_CHECK(started.has_value());
    server_ = std::move(*started);
  }

  [[nodiscard]] std::string url(const std::string& path = "/m.gguf") const {
    return "http://127.0.0.1:" + std::to_string(server_->port()) + path;
  }

  struct Wishes {
    bool ranges = true;
    std::string etag = "\"one\"";
    std::string last_modified;
    bool heeds_if_match = true;
    unsigned status = 0;              // of every answer; 0: what is right
    unsigned statuses_left = ~0u;     // of those with `status`; then what is right
    std::uint64_t breaks_after = 0;   // bytes of every answer; 0: never
    unsigned breaks_left = ~0u;       // answers that break; then none does
    std::uint64_t changes_after = 0;  // answers; then the ETag is "two" and bytes differ; 0: never
    std::string redirect;             // Location of every answer but those to /final
    std::string encoding;
    bool hangs = false;       // says nothing
    std::uint64_t shift = 0;  // of Content-Range: a server that is wrong
  };
  void wish(const Wishes& wishes) {
    const std::lock_guard lock(mutex_);
    wishes_ = wishes;
  }

  struct Asked {
    std::string path;
    std::string range;
    std::vector<http::Header> headers;
  };
  [[nodiscard]] std::vector<Asked> asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  /// Bytes of bodies that were sent.
  [[nodiscard]] std::uint64_t sent() const { return sent_; }

 private:
  static std::uint64_t number(std::string_view text) {
    std::uint64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
  }

  void answer(const std::shared_ptr<http::Exchange>& shared) {
    const std::lock_guard lock(mutex_);
    http::Exchange& exchange = *shared;
    const http::Request& request = exchange.request();
    const std::string range(request.header("Range"));
    asked_.push_back({request.path, range, request.headers});
    if (wishes_.hangs) {
      held_.push_back(shared);
      return;
    }
    if (!wishes_.redirect.empty() && request.path != "/final") {
      return exchange.respond({.status = 302, .headers = {{"Location", wishes_.redirect}}});
    }
    if (wishes_.status != 0 && wishes_.statuses_left > 0) {
      --wishes_.statuses_left;
      return exchange.respond({.status = wishes_.status, .body = "no"});
    }
    const bool is_changed = wishes_.changes_after != 0 && asked_.size() > wishes_.changes_after;
    const std::string etag = is_changed ? "\"two\"" : wishes_.etag;
    const std::string_view wanted = request.header("If-Match");
    if (wishes_.heeds_if_match && !wanted.empty() && wanted != etag) {
      return exchange.respond({.status = 412});
    }
    send(exchange, range, etag, is_changed);
  }

  void send(http::Exchange& exchange, const std::string& range, const std::string& etag,
            bool is_changed) {
    http::Response response;
    std::uint64_t first = 0;
    std::uint64_t size = file_.size();
    if (wishes_.ranges && !range.empty()) {
      const std::size_t dash = range.find('-');
      first = number(std::string_view(range).substr(6, dash - 6));
      const std::uint64_t last = number(std::string_view(range).substr(dash + 1));
      if (first >= file_.size()) return exchange.respond({.status = 416});
      size = std::min<std::uint64_t>(last + 1, file_.size()) - first;
      response.status = 206;
      response.headers.push_back({"Content-Range", "bytes " +
                                                       std::to_string(first + wishes_.shift) + "-" +
                                                       std::to_string(first + size - 1) + "/" +
                                                       std::to_string(file_.size())});
    }
    if (!etag.empty()) response.headers.push_back({"ETag", etag});
    if (!wishes_.encoding.empty()) {
      response.headers.push_back({"Content-Encoding", wishes_.encoding});
    }
    if (!wishes_.last_modified.empty()) {
      response.headers.push_back({"Last-Modified", wishes_.last_modified});
    }
    std::string body = file_.substr(first, size);
    if (is_changed) {
      for (char& c : body) c = static_cast<char>(c + 1);
    }
    if (wishes_.breaks_after != 0 && wishes_.breaks_left > 0 && wishes_.breaks_after < size) {
      // A stream that nobody ends: the connection is cut.
      --wishes_.breaks_left;
      sent_ += wishes_.breaks_after;
      exchange.begin(response);
      exchange.write(body.substr(0, wishes_.breaks_after));
      return;
    }
    sent_ += size;
    response.body = std::move(body);
    exchange.respond(std::move(response));
  }

  const std::string file_;
  mutable std::mutex mutex_;  // guards what follows
  Wishes wishes_;
  std::vector<Asked> asked_;
  std::vector<std::shared_ptr<http::Exchange>> held_;
  std::atomic<std::uint64_t> sent_{0};
  std::unique_ptr<http::Server> server_;  // last: its threads use everything above
};

/// `size` bytes of a fixed sequence, different at every place.
inline std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  std::uint32_t state = 7;
  for (char& c : bytes) {
    state = state * 1664525u + 1013904223u;
    c = static_cast<char>(state >> 24);
  }
  return bytes;
}

}  // namespace conclave::artifacts::test

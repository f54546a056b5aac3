// Server-sent events (the WHATWG event-stream format): reading and writing. `id` and `retry` are
// read over: nobody here reconnects by them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"

namespace conclave::http {

struct SseEvent {
  std::string type;  // empty: a plain `message`
  std::string data;  // lines joined by \n

  friend bool operator==(const SseEvent&, const SseEvent&) = default;
};

/// Takes a stream in pieces cut anywhere, with any of the three line ends. Bounded: an event (its
/// lines with their names) has at most `event_bytes_max` bytes.
class SseParser {
 public:
  explicit SseParser(std::size_t event_bytes_max = std::size_t{1} << 20)
      : event_bytes_max_(event_bytes_max) {}

  /// The events that `chunk` completes. An event without its empty line at the end of the stream
  /// is none. kCorruptData once an event is too large; every later call gives that again.
  base::Result<std::vector<SseEvent>> push(std::string_view chunk);

 private:
  void take_line(std::vector<SseEvent>& events);

  std::size_t event_bytes_max_;
  std::size_t event_bytes_ = 0;  // of the event that is being read, so far
  std::string line_;             // without its end
  SseEvent event_;
  bool has_data_ = false;
  bool after_carriage_return_ = false;  // a \n now belongs to the line that has just ended
  bool first_line_ = true;              // may begin with a byte order mark
  bool failed_ = false;
};

/// Appends one event. Each line of `data` (\n, \r\n or \r) becomes a `data:` line of its own;
/// `type` must be free of line ends.
void append_sse(std::string& out, std::string_view data, std::string_view type = {});

/// The same as a string of its own: `data: {..}\n\n`.
std::string sse_event(std::string_view data, std::string_view type = {});

/// What readers ignore; keeps a silent stream alive through proxies.
inline constexpr std::string_view kSseComment = ": \n\n";

}  // namespace conclave::http

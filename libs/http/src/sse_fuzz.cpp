// Any bytes as an event stream: the same events however it is cut, and written events read back.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/base/check.hpp"
#include "conclave/http/sse.hpp"

using conclave::http::SseEvent;
using conclave::http::SseParser;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kEventBytesMax = 64;
  const std::string_view stream(reinterpret_cast<const char*>(data), size);
  SseParser whole(kEventBytesMax);
  SseParser pieces(kEventBytesMax);
  const auto at_once = whole.push(stream);
  std::vector<SseEvent> events;
  bool failed = false;
  for (std::size_t at = 0; at < size;) {  // the bytes themselves say where to cut
    const std::size_t length = 1 + data[at] % 7U;
    const auto more = pieces.push(stream.substr(at, length));
    failed = !more;
    if (failed) break;
    events.insert(events.end(), more->begin(), more->end());
    at += length;
  }
  CONCLAVE_CHECK(failed == !at_once.has_value());
  if (failed) return 0;
  CONCLAVE_CHECK(events == *at_once);

  SseParser again;
  for (const SseEvent& event : events) {
    const auto read = again.push(conclave::http::sse_event(event.data, event.type));
    CONCLAVE_CHECK(read && *read == std::vector<SseEvent>{event});
  }
  return 0;
}

#include "token_messages.hpp"

#include <utility>

namespace conclave::router {

namespace {

// What the parts of an event take beside their texts: words and pointers of the schema, rounded up.
constexpr std::size_t kStreamBytes = 64;
constexpr std::size_t kEventBytes = 96;
constexpr std::size_t kChoiceBytes = 32;

std::size_t bytes_of(const wire::TokenEvent& event) {
  std::size_t bytes =
      kEventBytes + event.piece.size() + event.text.size() + event.error.message.size();
  for (const wire::TokenChoice& choice : event.top) bytes += kChoiceBytes + choice.piece.size();
  return bytes;
}

}  // namespace

// The last message's entry for the stream, in a new message if that one is full.
wire::StreamEvents& TokenMessages::room_for(std::uint64_t stream, std::size_t bytes) {
  if (messages_.empty() || (bytes_ > 0 && bytes_ + bytes > message_bytes_)) {
    messages_.emplace_back();
    bytes_ = 0;
  }
  auto& streams = messages_.back().streams;
  if (streams.empty() || streams.back().stream != stream) {
    streams.push_back({.stream = stream});
    bytes_ += kStreamBytes;
  }
  bytes_ += bytes;
  return streams.back();
}

void TokenMessages::add(wire::StreamEvents events) {
  for (wire::TokenEvent& event : events.prompt) {
    room_for(events.stream, bytes_of(event)).prompt.push_back(std::move(event));
  }
  for (wire::TokenEvent& event : events.tokens) {
    room_for(events.stream, bytes_of(event)).tokens.push_back(std::move(event));
  }
}

std::vector<wire::TokenEvents> TokenMessages::take() {
  bytes_ = 0;
  return std::exchange(messages_, {});
}

}  // namespace conclave::router

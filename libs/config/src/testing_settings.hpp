// Settings with a field of every type, as a service composes them.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "conclave/config/fields.hpp"

namespace conclave::config {

enum class Colour : std::uint8_t { kRed, kBlue };
constexpr auto enum_names(Colour /*tag*/) {
  using Name = std::pair<std::string_view, Colour>;
  return std::to_array<Name>({{"red", Colour::kRed}, {"blue", Colour::kBlue}});
}

struct RouterPart {
  unsigned max_inflight = 8;
  float share = 0.5f;
  std::chrono::milliseconds deadline{1500};

  template <class Visitor>
  void visit(Visitor&& v) {
    using std::chrono::milliseconds;
    v("max-inflight", max_inflight, 1u, 64u, "Requests at once");
    v("share", share, 0.0f, 1.0f, "Part of the memory");
    v("deadline_ms", deadline, milliseconds{0}, milliseconds{60'000}, "Time for a request");
  }
};

struct PaintPart {
  std::string name = "none";
  bool is_wet = false;
  std::vector<std::string> layers = {"base"};
  Colour colour = Colour::kRed;
  Secret recipe;

  template <class Visitor>
  void visit(Visitor&& v) {
    v("name", name, "Its name");
    v("wet", is_wet, "Not dry yet");
    v("layers", layers, "From the wall outwards");
    v("colour", colour, "What it looks like");
    v("recipe", recipe, "How it is made");
  }
};

struct TopPart {
  int level = 1;

  template <class Visitor>
  void visit(Visitor&& v) {
    v("level", level, 0, 9, "How much");
  }
};

struct TestSettings {
  RouterPart router;
  PaintPart paint;
  TopPart top;

  template <class Visitor>
  void sections(Visitor&& v) {
    v("router", router);
    v("paint", paint);
    v("", top);
  }
};

}  // namespace conclave::config

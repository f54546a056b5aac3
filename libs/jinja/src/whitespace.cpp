#include "whitespace.hpp"

#include "text.hpp"

namespace conclave::jinja {
namespace {

bool starts_line(std::string_view text, std::size_t at) {
  if (at == 0 || text[at - 1] == '\n' || text[at - 1] == '\r') return true;
  if (at < 3) return false;
  const std::string_view before = text.substr(at - 3, 3);
  return before == "\u2028" || before == "\u2029";
}

class Rewriter {
 public:
  explicit Rewriter(const PreparedSource& from) : from_(from) {
    to_.text.reserve(from.text.size());
    to_.origin.reserve(from.origin.size());
  }

  void keep(std::size_t begin, std::size_t end) {
    to_.text.append(from_.text, begin, end - begin);
    for (std::size_t i = begin; i < end; ++i) to_.origin.push_back(from_.origin[i]);
  }

  PreparedSource finish() {
    to_.origin.push_back(from_.origin.back());
    return std::move(to_);
  }

 private:
  const PreparedSource& from_;
  PreparedSource to_;
};

PreparedSource strip_before_tags(const PreparedSource& source) {
  const std::string_view text = source.text;
  Rewriter out(source);
  std::size_t at = 0;
  while (at < text.size()) {
    std::size_t blanks_end = at;
    if (starts_line(text, at)) {
      while (blanks_end < text.size() && (text[blanks_end] == ' ' || text[blanks_end] == '\t')) {
        ++blanks_end;
      }
      const std::string_view tag = text.substr(blanks_end, 2);
      if (tag != "{#" && tag != "{%" && tag != "{-") {
        out.keep(at, blanks_end);
      }
    }
    if (blanks_end < text.size()) out.keep(blanks_end, blanks_end + 1);
    at = blanks_end + 1;
  }
  return out.finish();
}

PreparedSource trim_after_tags(const PreparedSource& source) {
  const std::string_view text = source.text;
  Rewriter out(source);
  for (std::size_t at = 0; at < text.size(); ++at) {
    const std::string_view before = at >= 2 ? text.substr(at - 2, 2) : std::string_view();
    const bool after_tag = before == "#}" || before == "%}" || before == "-}";
    if (text[at] == '\n' && after_tag) continue;
    out.keep(at, at + 1);
  }
  return out.finish();
}

struct GenerationTag {
  std::size_t end = 0;  // 0: no tag
  bool strip_before = false;
  bool strip_after = false;
};

std::size_t skip_space(std::string_view text, std::size_t at) {
  while (const std::size_t length = leading_space(text.substr(at))) at += length;
  return at;
}

GenerationTag generation_tag(std::string_view text, std::size_t at) {
  GenerationTag tag;
  if (text.substr(at, 2) != "{%") return tag;
  at += 2;
  tag.strip_before = text.substr(at, 1) == "-";
  if (tag.strip_before) ++at;
  at = skip_space(text, at);
  if (text.substr(at, 3) == "end") at += 3;
  constexpr std::string_view kName = "generation";
  if (text.substr(at, kName.size()) != kName) return tag;
  at = skip_space(text, at + kName.size());
  tag.strip_after = text.substr(at, 1) == "-";
  if (tag.strip_after) ++at;
  if (text.substr(at, 2) == "%}") tag.end = at + 2;
  return tag;
}

PreparedSource drop_generation_tags(const PreparedSource& source) {
  const std::string_view text = source.text;
  if (text.find("generation") == std::string_view::npos) return source;
  Rewriter out(source);
  std::size_t kept = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] != '{') continue;
    const GenerationTag tag = generation_tag(text, at);
    if (tag.end == 0) continue;
    std::string_view before = text.substr(kept, at - kept);
    if (tag.strip_before) before = trim_end(before);
    out.keep(kept, kept + before.size());
    kept = tag.strip_after ? skip_space(text, tag.end) : tag.end;
    at = kept - 1;
  }
  out.keep(kept, text.size());
  return out.finish();
}

}  // namespace

PreparedSource prepare_source(std::string_view source) {
  PreparedSource prepared;
  prepared.text = source;
  if (prepared.text.ends_with('\n')) prepared.text.pop_back();
  for (std::size_t i = 0; i <= prepared.text.size(); ++i) {
    prepared.origin.push_back(static_cast<std::uint32_t>(i));
  }
  return drop_generation_tags(trim_after_tags(strip_before_tags(prepared)));
}

}  // namespace conclave::jinja

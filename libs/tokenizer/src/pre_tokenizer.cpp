#include "pre_tokenizer.hpp"

#include <array>
#include <cstddef>
#include <new>
#include <string>
#include <utility>

#include "conclave/base/utf8.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace conclave::tokenizer {
namespace {

using base::ErrorCode;
using base::fail;

// Steps that one match may take before it gives up. A word of n bytes needs a few n; the longest
// text that encode takes by default is 16 MiB.
constexpr std::uint32_t kMatchStepsMax = 1u << 28;
// Memory that one match may take to backtrack, in KiB; only the interpreter (no JIT) needs any.
constexpr std::uint32_t kMatchHeapKibMax = 1u << 18;

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* p) const {
    Free(p);
  }
};

using Code = std::unique_ptr<pcre2_code, Deleter<pcre2_code_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context_free>>;

std::string message_of(int error) {
  std::array<unsigned char, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

// `\s` and `\S` spelt out as the White_Space property of Unicode: PCRE2 counts U+180E in too.
std::string expand_white_space(std::string_view pattern) {
  constexpr std::string_view kWhiteSpace =
      R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c != '\\') {
      in_class = in_class ? c != ']' : c == '[';
      out += c;
      continue;
    }
    const char escaped = pattern[++i];
    if (escaped == 's' && in_class) {
      out += kWhiteSpace;
    } else if (escaped == 's' || escaped == 'S') {
      out.append(escaped == 's' ? "[" : "[^").append(kWhiteSpace) += ']';
    } else {
      (out += '\\') += escaped;
    }
  }
  return out;
}

}  // namespace

class PreTokenizer::Pattern {
 public:
  static base::Result<Pattern> compile(std::string_view source) {
    const std::string pattern = expand_white_space(source);
    int error = 0;
    std::size_t offset = 0;
    Code code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE | PCRE2_DOLLAR_ENDONLY,
                            &error, &offset, nullptr));
    if (code == nullptr) {
      return fail(ErrorCode::kInternal, "pattern '" + pattern + "' at " + std::to_string(offset) +
                                            ": " + message_of(error));
    }
    // Without JIT (a hardened kernel may forbid writable code) matching works, ten times slower.
    const bool jit = pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE) == 0;
    return Pattern(std::move(code), jit);
  }

  /// Appends the ends of matches and gaps of `piece`, which starts at `base` of the text.
  base::Status cut(std::string_view piece, std::uint32_t base, pcre2_match_data* data,
                   pcre2_match_context* context, std::vector<std::uint32_t>& ends) const {
    const auto* const subject = reinterpret_cast<PCRE2_SPTR>(piece.data());
    const std::size_t* const at = pcre2_get_ovector_pointer(data);
    std::size_t done = 0;
    while (done < piece.size()) {
      const int rc = jit_ ? pcre2_jit_match(code_.get(), subject, piece.size(), done,
                                            PCRE2_NO_UTF_CHECK, data, context)
                          : pcre2_match(code_.get(), subject, piece.size(), done,
                                        PCRE2_NO_UTF_CHECK, data, context);
      if (rc == PCRE2_ERROR_NOMATCH) break;
      if (rc < 0) {
        return fail(ErrorCode::kInvalidArgument,
                    "the text cannot be split into words: " + message_of(rc));
      }
      if (at[0] > done) ends.push_back(base + static_cast<std::uint32_t>(at[0]));
      // No pattern of the table matches nothing; should one do so, a character at a time is still
      // progress.
      const std::size_t end =
          at[1] > at[0] ? at[1] : at[0] + base::utf8::decode(piece.substr(at[0])).length;
      if (end > at[0]) ends.push_back(base + static_cast<std::uint32_t>(end));
      done = end;
      if (at[0] == piece.size()) break;
    }
    if (done < piece.size()) ends.push_back(base + static_cast<std::uint32_t>(piece.size()));
    return {};
  }

 private:
  Pattern(Code code, bool jit) : code_(std::move(code)), jit_(jit) {}

  Code code_;
  bool jit_;
};

struct PreTokenizer::Scratch::Match {
  MatchData data;
  MatchContext context;
};

PreTokenizer::Scratch::Scratch() : match_(std::make_unique<Match>()) {
  match_->data.reset(pcre2_match_data_create(1, nullptr));
  match_->context.reset(pcre2_match_context_create(nullptr));
  if (match_->data == nullptr || match_->context == nullptr) throw std::bad_alloc();
  pcre2_set_match_limit(match_->context.get(), kMatchStepsMax);
  pcre2_set_heap_limit(match_->context.get(), kMatchHeapKibMax);
}
PreTokenizer::Scratch::Scratch(Scratch&&) noexcept = default;
PreTokenizer::Scratch& PreTokenizer::Scratch::operator=(Scratch&&) noexcept = default;
PreTokenizer::Scratch::~Scratch() = default;

PreTokenizer::PreTokenizer(std::vector<Pattern> patterns) : patterns_(std::move(patterns)) {}
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

base::Result<PreTokenizer> PreTokenizer::create(const PreRule& rule) {
  std::vector<Pattern> patterns;
  for (const PreStep& step : rule.steps) {
    CONCLAVE_TRY(Pattern pattern, Pattern::compile(step.pattern));
    patterns.push_back(std::move(pattern));
  }
  return PreTokenizer(std::move(patterns));
}

base::Status PreTokenizer::split(std::string_view text, Scratch& scratch,
                                 std::vector<std::uint32_t>& ends) const {
  ends.clear();
  if (text.empty()) return {};
  ends.push_back(static_cast<std::uint32_t>(text.size()));
  for (const Pattern& pattern : patterns_) {
    scratch.ends_.clear();
    std::uint32_t start = 0;
    for (const std::uint32_t end : ends) {
      CONCLAVE_TRY_VOID(pattern.cut(text.substr(start, end - start), start,
                                    scratch.match_->data.get(), scratch.match_->context.get(),
                                    scratch.ends_));
      start = end;
    }
    ends.swap(scratch.ends_);
  }
  return {};
}

}  // namespace conclave::tokenizer

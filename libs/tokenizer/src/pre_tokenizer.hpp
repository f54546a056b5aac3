// Cuts a text into words by a rule of pre_rules.hpp. The only file that knows the regex library is
// pre_tokenizer.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "conclave/base/result.hpp"
#include "pre_rules.hpp"

namespace conclave::tokenizer {

/// Immutable and safe to use from any thread, each with a Scratch of its own.
class PreTokenizer {
 public:
  /// What one call needs to match; made by the caller, reused for every fragment of its text.
  class Scratch {
   public:
    Scratch();
    Scratch(Scratch&&) noexcept;
    Scratch& operator=(Scratch&&) noexcept;
    ~Scratch();

   private:
    friend class PreTokenizer;
    struct Match;
    std::unique_ptr<Match> match_;
    std::vector<std::uint32_t> ends_;
  };

  /// kInternal if a pattern of the table does not compile.
  static base::Result<PreTokenizer> create(const PreRule& rule);

  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  /// Sets `ends` to the end offset of each word of `text`, ascending; together the words are the
  /// text. `text` is valid UTF-8 below 4 GiB. kInvalidArgument if a pattern gives up on it.
  base::Status split(std::string_view text, Scratch& scratch,
                     std::vector<std::uint32_t>& ends) const;

 private:
  class Pattern;
  explicit PreTokenizer(std::vector<Pattern> patterns);
  std::vector<Pattern> patterns_;
};

}  // namespace conclave::tokenizer

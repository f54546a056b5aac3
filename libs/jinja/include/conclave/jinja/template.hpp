// Jinja as chat templates use it: parse once, render many times. The dialect, its output and its
// refusals are those of Hugging Face's JavaScript engine (trim_blocks and lstrip_blocks on); the
// README lists where we follow Python's Jinja2 instead. No includes, no inheritance, no I/O.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"
#include "conclave/jinja/value.hpp"

namespace conclave::jinja {

struct Program;

/// Longest template accepted. Published chat templates stay below 40 KB.
inline constexpr std::size_t kSourceBytesMax = std::size_t{1} << 20;

/// Deepest nesting of data: JSON taken in, lists built by a template. Tool schemas reach about 15.
inline constexpr std::size_t kValueDepthMax = 100;

/// True for the names that no context may redefine: range, namespace, true and the like.
bool is_builtin_name(std::string_view name);

/// What one rendering may consume, and what time it is. Every bound ends the rendering with
/// kOverloaded; none is reached by a sane template on a request that fits its context window.
struct RenderOptions {
  /// Bytes of the result. A 1M-token prompt is about 4 MiB.
  std::size_t output_bytes_max = std::size_t{64} << 20;

  /// Nodes evaluated, plus one for each 16 bytes that a filter reads or makes. Roughly 40 ns each.
  std::uint64_t steps_max = 20'000'000;

  /// Bytes of all strings, lists and scopes made on the way, freed or not. Templates copy a text
  /// about ten times between the message and the result.
  std::uint64_t memory_bytes_max = std::uint64_t{512} << 20;

  /// Evaluations inside evaluations (a macro calling itself). About 1 KB of stack each.
  std::size_t depth_max = 600;

  /// What strftime_now() formats. Local time is the caller's business: add the zone's offset.
  std::chrono::sys_seconds now{};
};

/// A parsed template. Immutable and cheap to copy; `render` may run on any number of threads.
class Template {
 public:
  /// kInvalidArgument with `line:column: ` before the message if the text is not a template we
  /// know, or if it is larger or more deeply nested than our limits.
  static base::Result<Template> parse(std::string_view source);

  /// `context` is an object: its entries are the template's global variables. Errors:
  ///  - kInvalidArgument: the template itself refused with raise_exception(); the message is its
  ///    own, untouched, and meant for whoever wrote the request;
  ///  - kFailedPrecondition: the template broke on these values (an unknown filter, a sum of a
  ///    string and nothing); `line:column: message`;
  ///  - kOverloaded: a limit of `options` was reached.
  [[nodiscard]] base::Result<std::string> render(const Value& context,
                                                 const RenderOptions& options = {}) const;

  /// True if a loop runs over `x.name`, or over a variable of that name or set from it: then the
  /// template can take a list there and not only a string. Asked about `content` of messages.
  [[nodiscard]] bool iterates_attribute(std::string_view name) const;

 private:
  explicit Template(std::shared_ptr<const Program> program) : program_(std::move(program)) {}

  std::shared_ptr<const Program> program_;
};

}  // namespace conclave::jinja

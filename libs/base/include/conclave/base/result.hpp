// Result<T>: a value or an Error, never both. A thin, must-use layer over tl::expected.
#pragma once

#include <tl/expected.hpp>
#include <utility>

#include "conclave/base/error.hpp"

namespace conclave::base {

template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
};

template <>
class [[nodiscard]] Result<void> : public tl::expected<void, Error> {
 public:
  using tl::expected<void, Error>::expected;
};

using Status = Result<void>;

/// What a function that failed returns: `return fail(ErrorCode::kNotFound, "no such tensor");`
inline tl::unexpected<Error> fail(ErrorCode code, std::string message) {
  return tl::unexpected<Error>(Error{code, std::move(message)});
}
inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

}  // namespace conclave::base

#define CONCLAVE_CONCAT_(a, b) a##b
#define CONCLAVE_CONCAT(a, b) CONCLAVE_CONCAT_(a, b)

/// `CONCLAVE_TRY(auto file, File::open(path));` — binds the value or returns the error.
#define CONCLAVE_TRY(declaration, ...) \
  CONCLAVE_TRY_(CONCLAVE_CONCAT(conclave_try_, __COUNTER__), declaration, __VA_ARGS__)
#define CONCLAVE_TRY_(name, declaration, ...)                        \
  auto name = (__VA_ARGS__);                                         \
  if (!name) return ::conclave::base::fail(std::move(name).error()); \
  declaration = std::move(*name)

/// `CONCLAVE_TRY_VOID(check(x));` — returns the error, if any.
#define CONCLAVE_TRY_VOID(...)                                                                   \
  do {                                                                                           \
    auto conclave_try_void = (__VA_ARGS__);                                                      \
    if (!conclave_try_void) return ::conclave::base::fail(std::move(conclave_try_void).error()); \
  } while (false)

#include "conclave/fabric/caf_error.hpp"

#include <caf/all.hpp>
#include <string>
#include <utility>

namespace conclave::fabric {

using base::Error;
using base::ErrorCode;

namespace {

constexpr caf::atom_value kSystemCategory = caf::atom("system");  // of caf::sec

ErrorCode code_of(caf::sec code) {
  switch (code) {
    case caf::sec::unexpected_message:
      return ErrorCode::kUnimplemented;
    case caf::sec::request_timeout:
      return ErrorCode::kDeadlineExceeded;
    case caf::sec::request_receiver_down:
      return ErrorCode::kUnavailable;
    default:
      return ErrorCode::kInternal;  // some fifty that our actors never make
  }
}

}  // namespace

caf::error to_caf(Error error) {
  return {static_cast<std::uint8_t>(error.code), kErrorCategory,
          caf::make_message(std::move(error.message))};
}

Error from_caf(const caf::error& error) {
  if (!error) return {ErrorCode::kInternal, "no error"};
  if (error.category() == kErrorCategory) {
    const auto code = error.code();
    const bool known = code >= 1 && code <= base::kErrorCodeCount;
    const auto& context = error.context();
    return {known ? static_cast<ErrorCode>(code) : ErrorCode::kInternal,
            context.match_elements<std::string>() ? context.get_as<std::string>(0) : ""};
  }
  if (error.category() == kSystemCategory) {
    const auto code = static_cast<caf::sec>(error.code());
    return {code_of(code), "actor: " + to_string(code)};
  }
  return {ErrorCode::kInternal, "actor: " + to_string(error)};
}

}  // namespace conclave::fabric

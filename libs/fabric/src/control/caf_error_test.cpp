#include "conclave/fabric/caf_error.hpp"

#include <gtest/gtest.h>

#include <caf/all.hpp>

#include "conclave/fabric/system.hpp"

namespace conclave::fabric {
namespace {

using base::Error;
using base::ErrorCode;

TEST(CafErrorTest, KeepsEveryCodeAndItsText) {
  for (int code = 1; code <= base::kErrorCodeCount; ++code) {
    const Error error{static_cast<ErrorCode>(code), "text " + std::to_string(code)};
    EXPECT_EQ(from_caf(to_caf(error)), error);
  }
}

TEST(CafErrorTest, TranslatesWhatCafSaysItself) {
  EXPECT_EQ(from_caf(caf::sec::request_timeout).code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(from_caf(caf::sec::request_receiver_down).code, ErrorCode::kUnavailable);
  EXPECT_EQ(from_caf(caf::sec::unexpected_message).code, ErrorCode::kUnimplemented);
  EXPECT_EQ(from_caf(caf::sec::runtime_error).code, ErrorCode::kInternal);
  EXPECT_EQ(from_caf(caf::exit_reason::kill).code, ErrorCode::kInternal);
  EXPECT_EQ(from_caf(caf::none).code, ErrorCode::kInternal);
}

TEST(CafErrorTest, DoesNotTrustCodesAndContexts) {
  EXPECT_EQ(from_caf(caf::error(0, kErrorCategory)).code, ErrorCode::kInternal);
  EXPECT_EQ(from_caf(caf::error(11, kErrorCategory)).code, ErrorCode::kInternal);
  EXPECT_EQ(from_caf(caf::error(2, kErrorCategory, caf::make_message(5))),
            (Error{ErrorCode::kNotFound, ""}));
}

TEST(SystemConfigTest, NamesOurErrors) {
  SystemConfig config(2);
  caf::actor_system system(config);
  EXPECT_EQ(system.render(to_caf({ErrorCode::kNotFound, "no model 'x'"})),
            "not_found: no model 'x'");
  EXPECT_EQ(system.scheduler().num_workers(), 2u);
}

}  // namespace
}  // namespace conclave::fabric

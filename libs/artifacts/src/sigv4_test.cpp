#include "sigv4.hpp"

#include <gmock/gmock.h>

namespace conclave::artifacts {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// The example of AWS's own documentation, "GET Object" of sig-v4-header-based-auth.
const Credentials kExample{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};
SignedGet example() {
  return {.host = "examplebucket.s3.amazonaws.com",
          .path = "/test.txt",
          .range = "bytes=0-9",
          .region = "us-east-1",
          .now = std::chrono::system_clock::from_time_t(1'369'353'600)};
}

TEST(SignatureTest, IsThatOfTheDocumentation) {
  EXPECT_THAT(
      sign(example(), kExample),
      ElementsAre(
          "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
          "x-amz-date: 20130524T000000Z",
          "Authorization: AWS4-HMAC-SHA256 "
          "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
          "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
          "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"));
}

TEST(SignatureTest, CoversTheTokenOfASession) {
  Credentials session = kExample;
  session.token = "a-token";

  const auto lines = sign(example(), session);

  EXPECT_THAT(lines, Contains("x-amz-security-token: a-token"));
  EXPECT_THAT(lines.back(), HasSubstr("x-amz-date;x-amz-security-token,Signature="));
  EXPECT_NE(lines.back(), sign(example(), kExample).back());
}

TEST(SignatureTest, NeedsNoRange) {
  SignedGet whole = example();
  whole.range = "";

  EXPECT_THAT(sign(whole, kExample).back(), HasSubstr("SignedHeaders=host;x-amz-content-sha256"));
}

TEST(SignatureTest, KeysAreEncodedOnce) {
  EXPECT_EQ(encode_path("a/b c+d~e=\xC3\xA9%"), "a/b%20c%2Bd~e%3D%C3%A9%25");
}

}  // namespace
}  // namespace conclave::artifacts

#include "conclave/artifacts/location.hpp"

#include <gtest/gtest.h>

namespace conclave::artifacts {
namespace {

using base::ErrorCode;

TEST(LocationTest, PathsAreFilesAndAreMadePlain) {
  EXPECT_EQ(Location::parse("/models/./a/../m.gguf").value().text(), "/models/m.gguf");
  EXPECT_EQ(Location::parse("file:///models/m.gguf").value().path(), "/models/m.gguf");
  EXPECT_FALSE(Location::parse("/models/m.gguf").value().is_remote());
}

TEST(LocationTest, TakesAddresses) {
  const Location http = Location::parse("https://host:8443/a/m.gguf?download=true#x").value();
  EXPECT_EQ(http.scheme(), Location::Scheme::kHttp);
  EXPECT_EQ(http.text(), "https://host:8443/a/m.gguf?download=true");
  EXPECT_EQ(http.shown(), "https://host:8443/a/m.gguf");
  EXPECT_EQ(http.file_name(), "m.gguf");
  const Location s3 = Location::parse("s3://models-1/a b/m?.gguf").value();
  EXPECT_EQ(s3.scheme(), Location::Scheme::kS3);
  EXPECT_EQ(s3.bucket(), "models-1");
  EXPECT_EQ(s3.key(), "a b/m?.gguf");
}

TEST(LocationTest, FindsOtherPartsByName) {
  const Location part = Location::parse("http://h/m-00001-of-00002.gguf?v=1").value();

  EXPECT_EQ(part.with_end("-00001-of-00002.gguf", "-00002-of-00002.gguf").value().text(),
            "http://h/m-00002-of-00002.gguf?v=1");
  EXPECT_EQ(part.with_end("-00002-of-00002.gguf", "x").error().code, ErrorCode::kNotFound);
}

TEST(LocationTest, RefusesEverythingElse) {
  const std::string cases[] = {"",
                               "m.gguf",
                               "./m.gguf",
                               "file://host/m.gguf",
                               "file://m.gguf",
                               "gopher://x/y",
                               "ftp://host/m.gguf",
                               "HTTP://host/m.gguf",
                               "http://",
                               "http:///m.gguf",
                               "http://:80/m.gguf",
                               "http://host",
                               "http://host/",
                               "http://host/models/",
                               "http://user:secret@host/m.gguf",
                               "http://host/a b.gguf",
                               "http://host/m\r\nX: y",
                               "s3://",
                               "s3://b/m.gguf",
                               "s3://bucket",
                               "s3://bucket/",
                               "s3://bucket/folder/",
                               "s3://bu cket/m.gguf",
                               "s3://a..b/m.gguf",
                               std::string("/m\0n", 4),
                               "/" + std::string(5000, 'm'),
                               "http://host/" + std::string(5000, 'm')};
  for (const std::string& uri : cases) {
    const auto location = Location::parse(uri);
    ASSERT_FALSE(location.has_value()) << uri;
    EXPECT_EQ(location.error().code, ErrorCode::kInvalidArgument) << uri;
    EXPECT_EQ(location.error().message.find("secret"), std::string::npos);
  }
}

}  // namespace
}  // namespace conclave::artifacts

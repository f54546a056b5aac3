#include "source.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <memory>

#include "testing_origin.hpp"

namespace conclave::artifacts {
namespace {

using base::ErrorCode;
using test::Origin;
using ::testing::HasSubstr;

constexpr std::uint64_t kSize = 300'000;

Settings quick() {
  Settings settings;
  settings.connect_timeout = std::chrono::milliseconds(2'000);
  settings.stall_timeout = std::chrono::milliseconds(1'000);
  settings.retries = 2;
  return settings;
}

class SourceTest : public ::testing::Test {
 protected:
  base::Result<std::unique_ptr<Source>> open(const std::string& url, const Stop& stop = {}) {
    if (!context_) {
      context_ = std::make_unique<SourceContext>(
          settings_, [] { return std::chrono::system_clock::from_time_t(1'369'353'600); },
          metrics_);
    }
    return Source::open(*context_, Location::parse(url).value(), stop);
  }

  static base::Result<std::string> read(const Source& source, std::uint64_t offset,
                                        std::uint64_t size, const Stop& stop = {}) {
    std::string all;
    CONCLAVE_TRY_VOID(source.read(
        offset, size,
        [&all](std::span<const std::byte> bytes) -> base::Status {
          all.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
          return {};
        },
        stop));
    return all;
  }

  const std::string file_ = test::pattern(kSize);
  Origin origin_{file_};
  Settings settings_ = quick();
  telemetry::Metrics metrics_;
  std::unique_ptr<SourceContext> context_;
};

TEST_F(SourceTest, ReadsRanges) {
  const auto source = open(origin_.url()).value();

  EXPECT_EQ(source->size(), kSize);
  EXPECT_TRUE(source->has_ranges());
  EXPECT_EQ(source->etag(), "\"one\"");
  EXPECT_EQ(read(*source, 0, kSize).value(), file_);
  EXPECT_EQ(read(*source, 1'000, 77).value(), file_.substr(1'000, 77));
  EXPECT_EQ(read(*source, kSize - 1, 1).value(), file_.substr(kSize - 1));
  EXPECT_EQ(read(*source, 5, 0).value(), "");
  EXPECT_EQ(origin_.sent(), 1 + kSize + 77 + 1);
}

TEST_F(SourceTest, GoesOnWhereATransferBroke) {
  const auto source = open(origin_.url()).value();
  origin_.wish({.breaks_after = 70'000});

  EXPECT_EQ(read(*source, 10, kSize - 20).value(), file_.substr(10, kSize - 20));

  // Every byte once: what came before a break is not asked for again.
  EXPECT_EQ(metrics_.counter("conclave_artifacts_fetched_bytes_total", "").value(), kSize - 20);
  EXPECT_GE(metrics_.counter("conclave_artifacts_retries_total", "").value(), 4);
  EXPECT_THAT(origin_.asked().back().range, ::testing::EndsWith("-299989"));
}

TEST_F(SourceTest, GivesUpWhenItGetsNoFurther) {
  const auto source = open(origin_.url()).value();
  origin_.wish({.breaks_after = 100});

  const auto result = read(*source, 0, kSize);

  EXPECT_EQ(result.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(result.error().message, HasSubstr("byte 300"));  // two tries more
}

TEST_F(SourceTest, TriesAgainWhatMayPass) {
  for (const unsigned status : {429u, 500u, 503u}) {
    origin_.wish({.status = status, .statuses_left = 2});
    EXPECT_TRUE(open(origin_.url()).has_value()) << status;
    origin_.wish({.status = status});
    EXPECT_EQ(open(origin_.url()).error().code, ErrorCode::kUnavailable) << status;
  }
}

TEST_F(SourceTest, SaysAtOnceWhatWillNotPass) {
  const std::pair<unsigned, ErrorCode> cases[] = {
      {404, ErrorCode::kNotFound},           {410, ErrorCode::kNotFound},
      {401, ErrorCode::kFailedPrecondition}, {403, ErrorCode::kFailedPrecondition},
      {400, ErrorCode::kFailedPrecondition}, {416, ErrorCode::kCorruptData}};
  for (const auto& [status, code] : cases) {
    const std::size_t before = origin_.asked().size();
    origin_.wish({.status = status});
    EXPECT_EQ(open(origin_.url()).error().code, code) << status;
    EXPECT_EQ(origin_.asked().size(), before + 1) << status;
  }
}

TEST_F(SourceTest, NeverMixesTwoStates) {
  for (const bool heeds : {true, false}) {
    Origin origin(file_);
    origin.wish({.heeds_if_match = heeds});
    const auto source = open(origin.url()).value();
    // The first answer breaks, the next one is of another state.
    origin.wish({.heeds_if_match = heeds, .breaks_after = 70'000, .changes_after = 2});

    const auto result = read(*source, 0, kSize);

    ASSERT_FALSE(result.has_value()) << heeds;
    EXPECT_EQ(result.error().code, ErrorCode::kFailedPrecondition);
    EXPECT_THAT(result.error().message, HasSubstr("another file"));
  }
}

TEST_F(SourceTest, TheDateTellsStatesApartWhereThereIsNoStrongTag) {
  origin_.wish({.etag = "W/\"weak\"", .last_modified = "Sat, 01 Nov 2025 10:00:00 GMT"});
  const auto source = open(origin_.url()).value();
  EXPECT_EQ(source->etag(), "");
  EXPECT_TRUE(read(*source, 0, 10).has_value());

  origin_.wish({.etag = "", .last_modified = "Sat, 01 Nov 2025 10:00:01 GMT"});
  EXPECT_EQ(read(*source, 0, 10).error().code, ErrorCode::kFailedPrecondition);
}

TEST_F(SourceTest, AServerWithoutRangesIsReadFromItsFirstByte) {
  origin_.wish({.ranges = false});
  const auto source = open(origin_.url()).value();

  EXPECT_FALSE(source->has_ranges());
  EXPECT_EQ(source->size(), kSize);
  EXPECT_EQ(read(*source, 200'000, 10).value(), file_.substr(200'000, 10));
  EXPECT_EQ(read(*source, 0, kSize).value(), file_);
}

TEST_F(SourceTest, AServerThatIsWrongIsNotBelieved) {
  const auto source = open(origin_.url()).value();

  origin_.wish({.shift = 1});
  EXPECT_EQ(read(*source, 0, 10).error().code, ErrorCode::kUnavailable);
  origin_.wish({.encoding = "gzip"});
  EXPECT_EQ(open(origin_.url()).error().code, ErrorCode::kUnimplemented);
}

TEST_F(SourceTest, NobodyThereIsSaidSo) {
  std::string url;
  {
    const Origin gone(file_);
    url = gone.url();
  }
  EXPECT_EQ(open(url).error().code, ErrorCode::kUnavailable);
}

TEST_F(SourceTest, AServerThatSaysNothingIsGivenUp) {
  settings_.retries = 0;
  origin_.wish({.hangs = true});

  const auto result = open(origin_.url());

  EXPECT_EQ(result.error().code, ErrorCode::kUnavailable);
}

TEST_F(SourceTest, FollowsSomeRedirects) {
  origin_.wish({.redirect = "/final"});
  const auto source = open(origin_.url()).value();
  EXPECT_EQ(read(*source, 0, 10).value(), file_.substr(0, 10));

  origin_.wish({.redirect = "/loop"});
  EXPECT_EQ(open(origin_.url()).error().code, ErrorCode::kFailedPrecondition);
  for (const char* away : {"file:///etc/passwd", "ftp://127.0.0.1/x"}) {
    origin_.wish({.redirect = away});
    EXPECT_FALSE(open(origin_.url()).has_value()) << away;
  }
}

TEST_F(SourceTest, EndsWhenItIsToldTo) {
  const auto source = open(origin_.url()).value();

  EXPECT_EQ(read(*source, 0, 10, [] { return true; }).error().code, ErrorCode::kCancelled);

  origin_.wish({.hangs = true});
  std::atomic<int> looks = 0;
  const Stop soon = [&looks] { return ++looks > 3; };
  EXPECT_EQ(read(*source, 0, 10, soon).error().code, ErrorCode::kCancelled);
}

TEST_F(SourceTest, AsksS3WithASignature) {
  ::setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE", 1);
  ::setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", 1);
  settings_.s3_endpoint = origin_.url("/");

  const auto source = open("s3://models/a b/m.gguf").value();
  EXPECT_EQ(read(*source, 7, 3).value(), file_.substr(7, 3));
  ::unsetenv("AWS_ACCESS_KEY_ID");
  ::unsetenv("AWS_SECRET_ACCESS_KEY");

  const Origin::Asked asked = origin_.asked().back();
  EXPECT_EQ(asked.path, "/models/a%20b/m.gguf");
  EXPECT_EQ(asked.range, "bytes=7-9");
  EXPECT_THAT(std::string(http::find_header(asked.headers, "authorization")),
              HasSubstr("AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request"));
  EXPECT_EQ(http::find_header(asked.headers, "x-amz-date"), "20130524T000000Z");

  // Without keys, as public buckets want it.
  EXPECT_TRUE(open("s3://models/m.gguf").has_value());
  EXPECT_EQ(http::find_header(origin_.asked().back().headers, "authorization"), "");
}

}  // namespace
}  // namespace conclave::artifacts

#include "admin_text.hpp"

#include <gtest/gtest.h>

namespace conclave::cli {
namespace {

namespace json = boost::json;

TEST(AdminTextTest, ReadsASplit) {
  EXPECT_EQ(json::serialize(split_of({"qwen@production", "qwen:3=90"}).value()),
            R"([{"reference":"qwen@production","weight":1},{"reference":"qwen:3","weight":90}])");
  for (const char* bad : {"", "=3", "Qwen", "qwen=0", "qwen=-1", "qwen=1000001", "qwen=9x",
                          "qwen=", "qwen:0", "qwen=99999999999999999999"}) {
    EXPECT_FALSE(split_of({bad})) << bad;
  }
}

TEST(AdminTextTest, ReadsPinningRules) {
  const auto one = [](const std::string& text) {
    return json::serialize(pins_of({text}).value().at(0));
  };
  EXPECT_EQ(one("gpu"), R"({"worker_group":"gpu"})");
  EXPECT_EQ(one("gpu/*"), R"({"worker_group":"gpu"})");
  EXPECT_EQ(one("gpu/2"), R"({"worker_group":"gpu","first_layer":2,"last_layer":2})");
  EXPECT_EQ(one("gpu/4-"), R"({"worker_group":"gpu","first_layer":4})");
  EXPECT_EQ(one("gpu/0-3/*"), R"({"worker_group":"gpu","first_layer":0,"last_layer":3})");
  EXPECT_EQ(one("gpu/*/7-8"), R"({"worker_group":"gpu","first_expert":7,"last_expert":8})");
  for (const char* bad : {"", "/1", "gpu/x", "gpu/3-1", "gpu/1/2/3", "gpu/-3", "gpu/1-2-3"}) {
    EXPECT_FALSE(pins_of({bad})) << bad;
  }
}

TEST(AdminTextTest, TellsTimesAndDurations) {
  EXPECT_EQ(time_text(0), "");
  EXPECT_EQ(time_text(1'750'000'000'999), "2025-06-15 15:06:40");
  EXPECT_EQ(duration_ms("90d").value(), std::int64_t{90} * 86'400'000);
  EXPECT_EQ(duration_ms("12h").value(), 43'200'000);
  EXPECT_EQ(duration_ms("1m").value(), 60'000);
  for (const char* bad :
       {"", "d", "0d", "-1d", "1", "1w", "1.5h", "4000d", "9999999999999999999d"}) {
    EXPECT_FALSE(duration_ms(bad)) << bad;
  }
}

}  // namespace
}  // namespace conclave::cli

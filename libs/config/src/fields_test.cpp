#include "conclave/config/fields.hpp"

#include <gmock/gmock.h>

#include <algorithm>

#include "testing_settings.hpp"

namespace conclave::config {
namespace {

using testing::ElementsAre;

struct FieldsTest : testing::Test {
  TestSettings settings;
  std::vector<Field> fields;
  FieldsTest() { append_sections(fields, settings); }

  Field& field(std::string_view key) {
    return *std::find_if(fields.begin(), fields.end(),
                         [&](const Field& candidate) { return candidate.key == key; });
  }
};

TEST_F(FieldsTest, NamesKeysBySectionWithDashes) {
  std::vector<std::string> keys;
  for (const Field& each : fields) keys.push_back(each.key);
  EXPECT_THAT(keys,
              ElementsAre("router.max-inflight", "router.share", "router.deadline-ms", "paint.name",
                          "paint.wet", "paint.layers", "paint.colour", "paint.recipe", "level"));
  EXPECT_EQ(environment_name("router.max-inflight"), "CONCLAVE_ROUTER_MAX_INFLIGHT");
  EXPECT_EQ(canonical_key("router.max_inflight"), "router.max-inflight");
}

TEST_F(FieldsTest, AssignsEveryTypeToItsMember) {
  field("router.max-inflight").assign({"64"});
  field("router.share").assign({"0.25"});
  field("router.deadline-ms").assign({"20"});
  field("paint.name").assign({"sky"});
  field("paint.wet").assign({"true"});
  field("paint.layers").assign({"a", "b"});
  field("paint.colour").assign({"blue"});
  field("paint.recipe").assign({"hush"});
  EXPECT_EQ(settings.router.max_inflight, 64u);
  EXPECT_EQ(settings.router.share, 0.25f);
  EXPECT_EQ(settings.router.deadline, std::chrono::milliseconds(20));
  EXPECT_EQ(settings.paint.name, "sky");
  EXPECT_TRUE(settings.paint.is_wet);
  EXPECT_THAT(settings.paint.layers, ElementsAre("a", "b"));
  EXPECT_EQ(settings.paint.colour, Colour::kBlue);
  EXPECT_EQ(settings.paint.recipe.reveal(), "hush");
}

TEST_F(FieldsTest, SaysWhatIsWrongWithAValue) {
  EXPECT_EQ(field("router.max-inflight").problem("65"), "'65' is not a number from 1 to 64");
  EXPECT_EQ(field("router.deadline-ms").problem("-1"), "'-1' is not a number from 0 to 60000");
  EXPECT_EQ(field("paint.colour").problem("green"), "'green' is not one of red, blue");
  EXPECT_EQ(field("paint.wet").problem("damp"), "'damp' is not true or false");
  EXPECT_EQ(field("paint.name").problem("anything"), "");
}

TEST_F(FieldsTest, PrintsTomlWithHelpRangesAndNoSecrets) {
  settings.paint.recipe = Secret("hush");
  EXPECT_EQ(to_toml(fields),
            "# How much (a number from 0 to 9)\n"
            "level = 1\n"
            "\n"
            "[paint]\n"
            "# Its name\n"
            "name = \"none\"\n"
            "# Not dry yet (true or false)\n"
            "wet = false\n"
            "# From the wall outwards\n"
            "layers = [\"base\"]\n"
            "# What it looks like (one of red, blue)\n"
            "colour = \"red\"\n"
            "# How it is made\n"
            "recipe = \"<secret>\"\n"
            "\n"
            "[router]\n"
            "# Requests at once (a number from 1 to 64)\n"
            "max_inflight = 8\n"
            "# Part of the memory (a number from 0.0 to 1.0)\n"
            "share = 0.5\n"
            "# Time for a request (a number from 0 to 60000)\n"
            "deadline_ms = 1500\n");
}

}  // namespace
}  // namespace conclave::config

#include "conclave/config/command_line.hpp"

#include <gmock/gmock.h>

#include <sstream>

#include "testing_environment.hpp"
#include "testing_settings.hpp"

namespace conclave::config {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

struct CommandLineTest : testing::Test {
  TestSettings settings;
  std::string printed;

  base::Result<Outcome> parse(std::vector<const char*> arguments) {
    std::vector<Field> fields;
    append_sections(fields, settings);
    arguments.insert(arguments.begin(), "conclave-test");
    std::ostringstream out;
    auto outcome = parse_command_line({"conclave-test", "Tests settings", "1.2.3"}, fields,
                                      static_cast<int>(arguments.size()), arguments.data(), out);
    printed = out.str();
    return outcome;
  }
  void run(const std::vector<const char*>& arguments) {
    const auto outcome = parse(arguments);
    ASSERT_TRUE(outcome.has_value()) << outcome.error().to_string();
    EXPECT_EQ(*outcome, Outcome::kRun);
  }
  std::string error_of(const std::vector<const char*>& arguments) {
    const auto outcome = parse(arguments);
    if (outcome) return "no error";
    EXPECT_EQ(outcome.error().code, base::ErrorCode::kInvalidArgument);
    EXPECT_THAT(outcome.error().message, Not(HasSubstr("\n")));
    return outcome.error().message;
  }
};

TEST_F(CommandLineTest, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  run({});
  EXPECT_EQ(settings.router.max_inflight, 8u);
  const ScopedFile file("[router]\nmax_inflight = 2\nshare = 0.75\n");
  run({"--config", file.path().c_str()});
  EXPECT_EQ(settings.router.max_inflight, 2u);
  const ScopedVariable variable("CONCLAVE_ROUTER_MAX_INFLIGHT", "3");
  run({"--config", file.path().c_str()});
  EXPECT_EQ(settings.router.max_inflight, 3u);
  run({"--config", file.path().c_str(), "--router.max-inflight", "4"});
  EXPECT_EQ(settings.router.max_inflight, 4u);
  EXPECT_EQ(settings.router.share, 0.75f);
}

TEST_F(CommandLineTest, AnEmptyVariableIsNone) {
  const ScopedFile file("[router]\nmax_inflight = 2\n");
  const ScopedVariable variable("CONCLAVE_ROUTER_MAX_INFLIGHT", "");
  run({"--config", file.path().c_str()});
  EXPECT_EQ(settings.router.max_inflight, 2u);
}

TEST_F(CommandLineTest, TheFileMayComeFromTheEnvironment) {
  const ScopedFile file("level = 5\n");
  const ScopedVariable variable("CONCLAVE_CONFIG", file.path());
  run({});
  EXPECT_EQ(settings.top.level, 5);
}

TEST_F(CommandLineTest, TakesDashesAndUnderscoresAndDottedKeysFromTheFile) {
  const ScopedFile file("router.max-inflight = 2\nrouter.deadline_ms = 7\n[paint]\nwet = true\n");
  run({"--config", file.path().c_str()});
  EXPECT_EQ(settings.router.max_inflight, 2u);
  EXPECT_EQ(settings.router.deadline, std::chrono::milliseconds(7));
  EXPECT_TRUE(settings.paint.is_wet);
}

TEST_F(CommandLineTest, SetsSwitchesByTheirNameOrByAValue) {
  run({"--paint.wet"});
  EXPECT_TRUE(settings.paint.is_wet);
  run({"--paint.wet=false"});
  EXPECT_FALSE(settings.paint.is_wet);
  const ScopedVariable variable("CONCLAVE_PAINT_WET", "true");
  run({});
  EXPECT_TRUE(settings.paint.is_wet);
  EXPECT_THAT(error_of({"--paint.wet=damp"}), HasSubstr("true or false"));
}

TEST_F(CommandLineTest, SetsListsFromEverySource) {
  run({"--paint.layers", "a,b"});
  EXPECT_THAT(settings.paint.layers, ElementsAre("a", "b"));
  run({"--paint.layers", "a", "--paint.layers", "c"});
  EXPECT_THAT(settings.paint.layers, ElementsAre("a", "c"));
  const ScopedFile file("[paint]\nlayers = [\"x\", \"y\"]\n");
  run({"--config", file.path().c_str()});
  EXPECT_THAT(settings.paint.layers, ElementsAre("x", "y"));
  const ScopedVariable variable("CONCLAVE_PAINT_LAYERS", "p,q");
  run({"--config", file.path().c_str()});
  EXPECT_THAT(settings.paint.layers, ElementsAre("p", "q"));
}

TEST_F(CommandLineTest, AnEmptyListInTheFileIsEmpty) {
  const ScopedFile file("[paint]\nlayers = []\n");
  run({"--config", file.path().c_str()});
  EXPECT_THAT(settings.paint.layers, IsEmpty());
}

TEST_F(CommandLineTest, KeepsTextAsItIs) {
  const ScopedFile file("[paint]\nname = \"a # b, c [d] 'e'\"\nrecipe = \"[hush]\"\n");
  run({"--config", file.path().c_str()});
  EXPECT_EQ(settings.paint.name, "a # b, c [d] 'e'");
  EXPECT_EQ(settings.paint.recipe.reveal(), "[hush]");
  run({"--paint.name", ""});
  EXPECT_EQ(settings.paint.name, "");
}

TEST_F(CommandLineTest, RefusesUnknownKeysByName) {
  EXPECT_THAT(error_of({"--router.max-inflght", "3"}), HasSubstr("--router.max-inflght"));
  EXPECT_THAT(error_of({"stray"}), HasSubstr("stray"));
  const ScopedFile file("[router]\nmax_inflght = 3\n");
  EXPECT_THAT(error_of({"--config", file.path().c_str()}),
              AllOf(HasSubstr("line 2"), HasSubstr("router.max_inflght")));
}

TEST_F(CommandLineTest, RefusesValuesOutOfRangeByName) {
  EXPECT_THAT(error_of({"--router.max-inflight", "65"}),
              AllOf(HasSubstr("--router.max-inflight"), HasSubstr("1 to 64")));
  const ScopedFile file("[router]\nmax_inflight = 0\n");
  EXPECT_THAT(error_of({"--config", file.path().c_str()}), HasSubstr("router.max-inflight"));
  const ScopedVariable variable("CONCLAVE_PAINT_COLOUR", "green");
  EXPECT_THAT(error_of({}), AllOf(HasSubstr("paint.colour"), HasSubstr("red, blue")));
}

TEST_F(CommandLineTest, RefusesAListWhereOneValueBelongs) {
  for (const char* list : {"[]", "[1]", "[1, 2]"}) {
    const ScopedFile file(std::string("[router]\nmax_inflight = ") + list + "\n");
    EXPECT_THAT(error_of({"--config", file.path().c_str()}), HasSubstr("router.max-inflight"));
  }
  const ScopedFile file("[paint]\nwet = []\n");
  EXPECT_THAT(error_of({"--config", file.path().c_str()}), HasSubstr("paint.wet"));
}

TEST_F(CommandLineTest, RefusesElementsThatItWouldSplit) {
  const ScopedFile file("[paint]\nlayers = [\"x,y\"]\n");
  EXPECT_THAT(error_of({"--config", file.path().c_str()}),
              AllOf(HasSubstr("paint.layers"), HasSubstr("comma")));
}

TEST_F(CommandLineTest, RefusesTheSameFlagTwice) {
  EXPECT_THAT(error_of({"--router.max-inflight", "3", "--router.max-inflight", "4"}),
              HasSubstr("router.max-inflight"));
}

TEST_F(CommandLineTest, RefusesFilesThatItCannotRead) {
  EXPECT_THAT(error_of({"--config", "/no/such.toml"}), HasSubstr("/no/such.toml"));
  const ScopedFile file("level = nine\n");
  EXPECT_THAT(error_of({"--config", file.path().c_str()}), HasSubstr("line 1"));
  const ScopedVariable variable("CONCLAVE_CONFIG", "/no/such.toml");
  EXPECT_THAT(error_of({}), HasSubstr("/no/such.toml"));
}

TEST_F(CommandLineTest, AnswersHelpAndVersion) {
  ASSERT_TRUE(parse({"--version"}).has_value());
  EXPECT_EQ(printed, "1.2.3\n");
  EXPECT_EQ(parse({"--help"}).value(), Outcome::kDone);
  EXPECT_THAT(printed, AllOf(HasSubstr("--router.max-inflight"), HasSubstr("Requests at once"),
                             HasSubstr("CONCLAVE_ROUTER_MAX_INFLIGHT"), HasSubstr("1 to 64")));
}

TEST_F(CommandLineTest, PrintsAConfigurationThatReadsBackAsItself) {
  const std::vector<const char*> given = {
      "--print-config", "--router.max-inflight", "33", "--paint.name",
      "a \"b\" \\ # c", "--paint.layers",        "x",  "--paint.recipe",
      "hush",           "--router.deadline-ms",  "9"};
  EXPECT_EQ(parse(given).value(), Outcome::kDone);
  const std::string first = printed;
  EXPECT_THAT(first, Not(HasSubstr("hush")));
  settings = TestSettings();
  const ScopedFile file(first);
  EXPECT_EQ(parse({"--print-config", "--config", file.path().c_str()}).value(), Outcome::kDone);
  EXPECT_EQ(printed, first);
  EXPECT_EQ(settings.router.max_inflight, 33u);
}

}  // namespace
}  // namespace conclave::config

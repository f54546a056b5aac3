#include "conclave/config/bind.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>

namespace conclave::config {
namespace {

struct Settings {
  float warmth = 0.5f;
  std::uint64_t seed = 7;

  template <class Visitor>
  void visit(Visitor&& v) {
    v("bind-test-warmth", warmth, 0.0f, 2.0f, "how warm");
    v("bind-test-seed", seed, std::uint64_t{0}, ~std::uint64_t{0}, "where to start");
  }
};

struct BindTest : testing::Test {
  CLI::App app;
  Settings settings;
  BindTest() { bind(app, settings); }
  ~BindTest() override { ::unsetenv("CONCLAVE_BIND_TEST_WARMTH"); }
};

TEST_F(BindTest, FlagBeatsEnvironmentBeatsDefault) {
  app.parse("");
  EXPECT_EQ(settings.warmth, 0.5f);
  ::setenv("CONCLAVE_BIND_TEST_WARMTH", "1.25", 1);
  app.parse("");
  EXPECT_EQ(settings.warmth, 1.25f);
  app.parse("--bind-test-warmth 1.5");
  EXPECT_EQ(settings.warmth, 1.5f);
}

TEST_F(BindTest, EnvironmentBeatsFileBeatsDefault) {
  const std::string path = testing::TempDir() + "/bind_test.toml";
  std::ofstream(path) << "bind-test-warmth = 0.75\nbind-test-seed = 9\n";
  app.set_config("--config");
  app.config_formatter(std::make_shared<EnvironmentFirst>(app));
  app.parse("--config " + path);
  EXPECT_EQ(settings.warmth, 0.75f);
  ::setenv("CONCLAVE_BIND_TEST_WARMTH", "1.25", 1);
  app.parse("--config " + path);
  EXPECT_EQ(settings.warmth, 1.25f);
  EXPECT_EQ(settings.seed, 9u);
  std::filesystem::remove(path);
}

TEST_F(BindTest, TakesTheWholeRangeOfAFieldAndRefusesMore) {
  app.parse("--bind-test-seed 18446744073709551615");
  EXPECT_EQ(settings.seed, ~std::uint64_t{0});
  EXPECT_THROW(app.parse("--bind-test-warmth 2.5"), CLI::ValidationError);
  EXPECT_THROW(app.parse("--bind-test-warmth nan"), CLI::ValidationError);
  EXPECT_THROW(app.parse("--bind-test-seed -1"), CLI::ParseError);
}

TEST_F(BindTest, TablesOfTheFileNameSubcommandsThenSections) {
  CLI::App& serve = *app.add_subcommand("serve");
  Settings router;
  bind_section(serve, "bind_router", router);
  const std::string path = testing::TempDir() + "/bind_test_subcommand.toml";
  std::ofstream(path) << "[serve.bind_router]\nbind_test_seed = 9\n";
  app.set_config("--config");
  app.config_formatter(std::make_shared<EnvironmentFirst>(app));
  app.parse("--config " + path + " serve");
  EXPECT_EQ(router.seed, 9u);
  EXPECT_EQ(settings.seed, 7u);
  std::ofstream(path) << "[serve]\nno-such = 9\n";
  EXPECT_THROW(app.parse("--config " + path + " serve"), CLI::ConfigError);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace conclave::config

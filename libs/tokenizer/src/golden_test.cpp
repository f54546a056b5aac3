// Ids of whole vocabularies against recorded ones.
//
// The first suite reads testdata/, our own small vocabularies with ids from a slow second
// implementation (testdata/make_golden.py). The second one reads ids that llama.cpp gave, from the
// folder that CONCLAVE_GOLDEN_DIR names; it is large and lives outside of the repository.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "conclave/base/utf8.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/tokenizer/stream_decoder.hpp"
#include "conclave/tokenizer/tokenizer.hpp"

namespace conclave::tokenizer {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr EncodeOptions kAsAsked{.parse_special = true, .add_special = true};
constexpr EncodeOptions kPlain{.parse_special = false, .add_special = false};

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<TokenId> ids_of(const json::value& value) {
  return json::value_to<std::vector<TokenId>>(value);
}

void expect_ids(const Tokenizer& tokenizer, const std::string& text, const EncodeOptions& options,
                const std::vector<TokenId>& expected) {
  const auto ids = tokenizer.encode(text, options);
  ASSERT_TRUE(ids) << ids.error().to_string();
  EXPECT_EQ(*ids, expected) << "text: " << json::serialize(json::value(text));
}

// Whatever the vocabulary, streaming gives what decoding gives.
void expect_stream_agrees(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  StreamDecoder stream(tokenizer);
  std::string text;
  for (const TokenId id : ids) text += stream.push(id);
  text += stream.flush();
  EXPECT_EQ(text, base::utf8::sanitize(tokenizer.decode(ids)));
}

void check_cases(const Tokenizer& tokenizer, const json::array& cases) {
  for (const json::value& entry : cases) {
    const auto text = json::value_to<std::string>(entry.at("text"));
    expect_ids(tokenizer, text, kAsAsked, ids_of(entry.at("ids")));
    const bool same = !entry.as_object().contains("ids_plain");
    expect_ids(tokenizer, text, kPlain, ids_of(entry.at(same ? "ids" : "ids_plain")));
    expect_stream_agrees(tokenizer, ids_of(entry.at("ids")));
  }
}

template <class T>
gguf::Value array_of(const json::value& value) {
  return {gguf::Array(json::value_to<std::vector<T>>(value))};
}

gguf::Metadata metadata_of(const json::object& object) {
  gguf::Metadata metadata;
  for (const auto& [key, value] : object) {
    if (value.is_string()) {
      metadata.set(key, {json::value_to<std::string>(value)});
    } else if (value.is_bool()) {
      metadata.set(key, {value.as_bool()});
    } else if (value.is_int64()) {
      metadata.set(key, {static_cast<std::uint32_t>(value.as_int64())});
    } else if (value.as_array().at(0).is_string()) {
      metadata.set(key, array_of<std::string>(value));
    } else if (value.as_array().at(0).is_double()) {
      metadata.set(key, array_of<float>(value));
    } else {
      metadata.set(key, array_of<std::int32_t>(value));
    }
  }
  return metadata;
}

TEST(TokenizerGoldenTest, AgreesWithTheSecondImplementationOnOurVocabularies) {
  const fs::path file = fs::path(CONCLAVE_SOURCE_DIR) / "libs/tokenizer/src/testdata/golden.json";
  const json::value golden = json::parse(read_file(file));
  for (const json::value& vocabulary : golden.at("vocabularies").as_array()) {
    gguf::Metadata metadata = metadata_of(vocabulary.at("metadata").as_object());
    for (const json::value& rule : vocabulary.at("rules").as_array()) {
      const auto name = json::value_to<std::string>(rule.at("pre"));
      SCOPED_TRACE(name);
      metadata.set("tokenizer.ggml.pre", {name});
      const auto tokenizer = Tokenizer::from_metadata(metadata);
      ASSERT_TRUE(tokenizer) << tokenizer.error().to_string();
      check_cases(*tokenizer, rule.at("cases").as_array());
    }
  }
}

/// Skips, and says so, unless CONCLAVE_GOLDEN_DIR names the folder of llama.cpp's ids. Beside that
/// folder are `vocabs/` and `tools/make_gguf.py`, which writes the models the files name.
class TokenizerLlamaGoldenTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("CONCLAVE_GOLDEN_DIR");
    if (folder == nullptr || *folder == '\0') {
      GTEST_SKIP() << "CONCLAVE_GOLDEN_DIR is not set: not compared with llama.cpp";
    }
    golden_ = folder;
  }

  [[nodiscard]] fs::path beside(const fs::path& name) const {
    return fs::canonical(golden_).parent_path() / name;
  }

  static Tokenizer load(const fs::path& path) {
    auto file = gguf::File::open(path);
    if (!file) throw std::runtime_error(file.error().to_string());
    auto tokenizer = Tokenizer::from_metadata(file->metadata());
    if (!tokenizer) throw std::runtime_error(tokenizer.error().to_string());
    return std::move(*tokenizer);
  }

  fs::path golden_;
};

TEST_F(TokenizerLlamaGoldenTest, AgreesOnRealVocabularies) {
  const json::value golden = json::parse(read_file(golden_ / "tokenizers-real.json"));
  for (const json::value& entry : golden.at("vocabs").as_array()) {
    const auto name = json::value_to<std::string>(entry.at("vocab"));
    SCOPED_TRACE(name);
    check_cases(load(beside("vocabs") / name), entry.at("cases").as_array());
  }
}

TEST_F(TokenizerLlamaGoldenTest, AgreesOnTheTextsThatComeWithRealVocabularies) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  for (const auto& entry : fs::directory_iterator(beside("vocabs"))) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path());
    const Tokenizer tokenizer = load(entry.path());
    std::string texts = read_file(entry.path().string() + ".inp");
    std::istringstream lines(read_file(entry.path().string() + ".out"));
    for (std::string line; std::getline(lines, line);) {
      const std::size_t end = texts.find(separator);
      const std::string text = texts.substr(0, end);
      texts.erase(0, end == std::string::npos ? end : end + separator.size());
      std::istringstream numbers(line);
      const std::vector<TokenId> expected{std::istream_iterator<TokenId>(numbers), {}};
      expect_ids(tokenizer, text, kPlain, expected);
      expect_stream_agrees(tokenizer, expected);
    }
  }
}

TEST_F(TokenizerLlamaGoldenTest, AgreesOnEveryPreTokenizerOfTheMadeVocabularies) {
  const json::value golden = json::parse(read_file(golden_ / "tokenizers.json"));
  const std::string python = fs::exists("/usr/bin/python3") ? "/usr/bin/python3" : "python3";
  const fs::path model = fs::path(testing::TempDir()) / "conclave_tokenizer_golden.gguf";
  for (const json::value& entry : golden.at("vocabs").as_array()) {
    const auto arguments = json::value_to<std::string>(entry.at("make_gguf"));
    SCOPED_TRACE(arguments);
    const std::string command = python + " -B '" + (beside("tools") / "make_gguf.py").string() +
                                "' " + arguments + " --out '" + model.string() +
                                "' >/dev/null 2>&1";
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
    check_cases(load(model), entry.at("cases").as_array());
  }
  fs::remove(model);
}

}  // namespace
}  // namespace conclave::tokenizer

// `conclave tokenize`: text to token ids by the vocabulary of a file.
#include <iostream>

#include "commands.hpp"
#include "conclave/base/utf8.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/tokenizer/tokenizer.hpp"
#include "model_options.hpp"
#include "output.hpp"

namespace conclave::cli {
namespace {

namespace json = boost::json;

struct Options {
  std::string model;
  std::string text;
  bool parse_special = false;
  bool pieces = false;
  OutputFormat format = OutputFormat::kTable;
};

base::Status tokenize(const Options& options) {
  CONCLAVE_TRY(const gguf::File file, gguf::File::open(options.model));
  CONCLAVE_TRY(const auto tokenizer, tokenizer::Tokenizer::from_metadata(file.metadata()));
  CONCLAVE_TRY(const std::string text, text_or_stdin(options.text));
  tokenizer::EncodeOptions encode;
  encode.parse_special = options.parse_special;
  encode.add_special = options.parse_special;
  CONCLAVE_TRY(const auto ids, tokenizer.encode(text, encode));

  if (options.format == OutputFormat::kJson) {
    json::array pieces;
    for (const auto id : ids) pieces.emplace_back(base::utf8::sanitize(tokenizer.token_text(id)));
    print_json(json::object{{"tokens", json::array(ids.begin(), ids.end())},
                            {"pieces", std::move(pieces)},
                            {"count", ids.size()}});
    return {};
  }
  if (options.pieces) {
    Table table({"id", "piece"});
    for (const auto id : ids) {
      table.add({std::to_string(id),
                 json::serialize(json::string(base::utf8::sanitize(tokenizer.token_text(id))))});
    }
    std::cout << table.to_string();
    return {};
  }
  for (std::size_t i = 0; i < ids.size(); ++i) std::cout << (i == 0 ? "" : " ") << ids[i];
  std::cout << "\n";
  return {};
}

}  // namespace

void add_tokenize(CLI::App& app, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("tokenize", "Turn text into token ids");
  command->add_option("-m,--model", options->model, "The GGUF file with the vocabulary")
      ->required()
      ->envname("CONCLAVE_MODEL");
  command->add_flag("--parse-special", options->parse_special,
                    "Read special tokens in the text as such, and add BOS and EOS as the "
                    "vocabulary asks; without it the text is taken literally");
  command->add_flag("--pieces", options->pieces, "Show each token's text beside its id");
  command->add_option("text", options->text, "The text, or - for standard input")->required();
  add_output_option(*command, options->format);
  command->callback([options, &action] { action = [options] { return tokenize(*options); }; });
}

}  // namespace conclave::cli

// Renders templates for the cross test: each input line is a JSON object {"template", "context"},
// each output line {"output"} or {"error", "code"}. The clock stands at 2024-07-26 13:05:09.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <fstream>
#include <iostream>
#include <string>

#include "conclave/jinja/json.hpp"
#include "conclave/jinja/template.hpp"

namespace {

using conclave::base::ErrorCode;
using conclave::base::Result;

Result<std::string> render_line(const boost::json::object& line) {
  const boost::json::string& source = line.at("template").as_string();
  CONCLAVE_TRY(const auto parsed, conclave::jinja::Template::parse({source.data(), source.size()}));
  CONCLAVE_TRY(const auto context, conclave::jinja::from_json(line.at("context")));
  conclave::jinja::RenderOptions options;
  options.now = std::chrono::sys_days(std::chrono::year(2024) / 7 / 26) + std::chrono::hours(13) +
                std::chrono::minutes(5) + std::chrono::seconds(9);
  return parsed.render(context, options);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: jinja_render CASES.jsonl\n";
    return 2;
  }
  std::ifstream input(argv[1]);
  std::string line;
  while (std::getline(input, line)) {
    const Result<std::string> output = render_line(boost::json::parse(line).as_object());
    boost::json::object answer;
    if (output) {
      answer["output"] = *output;
    } else {
      answer["error"] = output.error().message;
      answer["code"] = std::string(conclave::base::to_string(output.error().code));
    }
    std::cout << boost::json::serialize(answer) << '\n';
  }
  return 0;
}

// What a chat template is rendered with.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <chrono>
#include <string>

namespace conclave::chat {

/// A conversation as clients send it (the OpenAI shapes). Nothing is checked before `render`.
struct ChatRequest {
  /// Objects with a string `role`; `content` is a string, null, or a list of {"type": "text"}
  /// parts; `tool_calls`, `tool_call_id`, `name`, `reasoning_content` and any other key reach the
  /// template as they are, but `arguments` of a tool call that is the text of a JSON object becomes
  /// that object, because published templates print it with tojson.
  boost::json::array messages;

  /// {"type": "function", "function": {...}} each; empty: the template sees none.
  boost::json::array tools;

  /// For templates that cite sources; empty: the template sees none.
  boost::json::array documents;

  /// Further variables, such as enable_thinking or reasoning_effort. May not name a variable that
  /// is set otherwise.
  boost::json::object template_kwargs;

  /// Ends the prompt with the opening of the assistant's turn.
  bool add_generation_prompt = true;

  /// A named template of the file. Empty: `tool_use` if there are tools and the file has it, else
  /// the default one.
  std::string template_name;

  /// What the template prints as today's date.
  std::chrono::sys_seconds now{};
};

}  // namespace conclave::chat

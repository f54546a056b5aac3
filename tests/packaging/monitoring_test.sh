#!/bin/sh
# deploy/monitoring with the tools that will read it: promtool, amtool. Shell scripts with shellcheck.
set -eu
cd "$(dirname "$0")/../.."
promtool check rules deploy/monitoring/rules.yml
promtool test rules deploy/monitoring/rules_test.yml
amtool check-config deploy/monitoring/alertmanager.yml
# The container has its rules elsewhere.
folder=$(mktemp -d)
cp deploy/monitoring/rules.yml "$folder"
sed 's|/etc/prometheus/||' deploy/monitoring/prometheus.yml > "$folder/prometheus.yml"
promtool check config "$folder/prometheus.yml"
rm -r "$folder"
shellcheck tools/image-root tools/finish-image tests/packaging/images/postgres/entrypoint "$0"
yamllint -d '{extends: relaxed, rules: {line-length: disable}}' compose deploy
# Every alert has the section in the operations guide that it points to.
sed -n 's/^ *- alert: //p' deploy/monitoring/rules.yml | while read -r alert; do
  grep -q "^### $alert\$" docs/operations.md || { echo "docs/operations.md has no section $alert"; exit 1; }
done
echo "monitoring: 6 passed, 0 failed"

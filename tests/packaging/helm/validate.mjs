// Holds Kubernetes objects, one JSON object a line on standard input, to the schemas of their API: built-in
// kinds, the Prometheus operator's and KEDA's. Prints what is wrong and how many were right.
// Usage: validate.mjs NODE_MODULES
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import path from 'node:path';

const modules = process.argv[2];
const packages = { 'monitoring.coreos.com': '@kubernetes-models/prometheus-operator', 'keda.sh': '@kubernetes-models/keda' };

async function modelOf(apiVersion, kind) {
  const [group] = apiVersion.split('/');
  const from = packages[group] ?? 'kubernetes-models';
  for (const file of [`${apiVersion}/${kind}.mjs`, `${apiVersion}/${kind}.js`]) {
    try {
      const module = await import(pathToFileURL(path.join(modules, from, file)));
      return module[kind] ?? module.default?.[kind];
    } catch (error) {
      if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
    }
  }
  return undefined;
}

let right = 0, wrong = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const object = JSON.parse(line);
  const name = `${object.kind} ${object.metadata?.name} (${object.apiVersion})`;
  const Model = await modelOf(object.apiVersion, object.kind);
  try {
    if (!Model) throw new Error('no schema of this kind');
    new Model(object).validate();
    right += 1;
  } catch (error) {
    wrong += 1;
    console.log(`${name}: ${error.message}`);
  }
}
console.log(`${right} objects are as the API has them, ${wrong} are not`);
process.exit(wrong === 0 ? 0 : 1);

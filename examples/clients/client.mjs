// bertserve from Node: health, vectors, masked words, next sentences, and what a refusal says.
//
//     npm install --prefix examples/clients
//     node examples/clients/client.mjs [HOST:PORT [SECONDS]]

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

import grpc from '@grpc/grpc-js'
import protoLoader from '@grpc/proto-loader'
import { service as healthService } from 'grpc-health-check'

const [target = '127.0.0.1:50051', time = '30'] = process.argv.slice(2)
const seconds = Number(time)
if (!target || !(seconds > 0 && seconds < 1e6)) {
  console.error('usage: client.mjs [HOST:PORT [SECONDS]]')
  process.exit(2)
}

const path = (name) => fileURLToPath(new URL(name, import.meta.url))
const loaded = protoLoader.loadSync(['bertapi/v1/bert_service.proto', path('error_details.proto')], {
  includeDirs: [path('../../proto')],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
})

const options = {
  // Round robin over all addresses of a name, and retries where a replica is UNAVAILABLE.
  'grpc.service_config': readFileSync(path('../../proto/bertapi/service_config.json'), 'utf8'),
  // Answers may take 64 MiB, or what the server's operator allows; gRPC's own limit is 4 MiB.
  'grpc.max_receive_message_length': -1,
}
const credentials = grpc.credentials.createInsecure()
const { BertService } = grpc.loadPackageDefinition(loaded).bertapi.v1
const Health = grpc.makeClientConstructor(healthService, 'Health')
const bert = new BertService(target, credentials, options)
const health = new Health(target, credentials)

function call(client, method, request) {
  const deadline = Date.now() + seconds * 1000
  return new Promise((resolve, reject) => {
    client[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)))
  })
}

async function main() {
  const { status } = await call(health, 'check', { service: 'bertapi.v1.BertService' })
  console.log(`health: ${status}`)

  const embedded = await call(bert, 'Embed', { inputs: [{ text: 'A cat sat here.' }, { text: 'A dog lay there.' }] })
  const [first, second] = embedded.embeddings.map((embedding) => floats(embedding.vectors))
  console.log(`embed: 2 vectors of ${first.length}, cosine ${cosine(first, second).toFixed(4)}`)

  const filled = await call(bert, 'FillMask', {
    inputs: [{ text: 'The [MASK] sat on the mat' }],
    options: { top_k: 3 },
  })
  const words = filled.results[0].masks[0].predictions
  console.log('fill mask:', words.map((word) => `${word.text} ${percent(word.probability)}`).join(', '))

  const { scores } = await call(bert, 'ScoreNextSentence', {
    first: 'The river flows through the city.',
    candidates: ['It empties into the sea.', 'The band released their second album.'],
  })
  console.log('next sentence:', scores.map((score) => percent(score.probability)).join(', '))

  try {
    await call(bert, 'FillMask', { inputs: [{ text: 'No word is hidden here' }] })
  } catch (error) {
    console.log('refused:', describe(error))
  }
}

// The bytes lie anywhere in a larger buffer; a Float32Array wants them at a multiple of four, so they are copied.
function floats(tensor) {
  return new Float32Array(Uint8Array.from(tensor.data).buffer)
}

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, index) => sum + value * y[index], 0)
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
}

function percent(probability) {
  return `${(100 * probability).toFixed(0)}%`
}

// The status, the fields at fault (google.rpc.BadRequest) and when to try again (google.rpc.RetryInfo).
function describe(error) {
  let faults = []
  let again = ''
  for (const { type_url, value } of details(error)) {
    const type = type_url.split('/').pop()
    if (type === 'google.rpc.BadRequest') {
      faults = decode(type, value).field_violations.map(({ field, description }) => `${field}: ${description}`)
    } else if (type === 'google.rpc.RetryInfo') {
      const { seconds, nanos } = decode(type, value).retry_delay
      again = `; try again in ${(seconds + nanos / 1e9).toFixed(1)} s`
    }
  }
  return `${grpc.status[error.code] ?? error}: ${faults.join('; ') || error.details}${again}`
}

function details(error) {
  const [trailer] = error.metadata?.get('grpc-status-details-bin') ?? []
  return trailer ? decode('google.rpc.Status', trailer).details : []
}

function decode(type, bytes) {
  return loaded[type].deserialize(bytes)
}

main().catch((error) => {
  console.error('failed:', describe(error))
  process.exitCode = 1
}).finally(() => {
  bert.close()
  health.close()
})

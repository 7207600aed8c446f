// A gRPC service of bytes, and a client that tries all of it: "server [CERT KEY]" prints its port,
// "client HOST:PORT [CA]" what came of each call, as JSON.
'use strict';
const fs = require('fs');
const grpc = require('@grpc/grpc-js');

const same = (bytes) => bytes;
const method = (name, requestStream, responseStream) => ({
    path: '/t.T/' + name, requestStream, responseStream, requestSerialize: same, requestDeserialize: same,
    responseSerialize: same, responseDeserialize: same });
const service = {
    unary: method('unary', false, false), up: method('up', true, false), down: method('down', false, true),
    both: method('both', true, true), none: method('none', false, false) };
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

// ---- the server ----

let cancelled = 0;

function unary(call, answer) {
    const word = call.request.length < 20 ? call.request.toString() : '';
    const trailers = new grpc.Metadata();

    trailers.set('x-trail', 'end');
    if (word === 'fail')
        return answer({ code: grpc.status.NOT_FOUND, details: 'no such thing: é%', metadata: trailers });
    if (word === 'cancelled')
        return answer(null, Buffer.from(String(cancelled)));
    if (word === 'slow')
        return call.on('cancelled', () => cancelled++);
    if (word === 'deadline')
        return answer(null, Buffer.from(String(call.getDeadline() - Date.now())));
    const head = new grpc.Metadata();
    head.set('x-seen', String(call.metadata.get('x-key')[0]));
    head.set('x-seen-bin', call.metadata.get('x-key-bin')[0] || Buffer.alloc(0));
    call.sendMetadata(head);
    return answer(null, Buffer.from(call.request.toString('latin1').toUpperCase(), 'latin1'), trailers);
}

function up(call, answer) {
    const got = [];

    call.on('data', (bytes) => got.push(bytes));
    call.on('end', () => answer(null, Buffer.from(got.length + ' of ' + Buffer.concat(got).length)));
}

function down(call) {
    for (let i = 0; i < 100; i++) {
        if (i === 3 && call.request.toString() === 'fail')
            return call.emit('error', { code: grpc.status.ABORTED, details: 'in the middle' });
        call.write(Buffer.alloc(i * 1000, call.request));
    }
    return call.end();
}

function both(call) {
    call.on('data', (bytes) => call.write(Buffer.from(bytes.toString().toUpperCase())));
    call.on('end', () => call.end());
}

function serve(cert, key) {
    const { none, ...known } = service;
    const server = new grpc.Server({ 'grpc.max_receive_message_length': -1 });
    const credentials = cert === undefined ? grpc.ServerCredentials.createInsecure()
        : grpc.ServerCredentials.createSsl(null, [{ cert_chain: fs.readFileSync(cert), private_key: fs.readFileSync(key) }]);

    server.addService(known, { unary, up, down, both });
    server.bindAsync('127.0.0.1:0', credentials, (error, port) => {
        if (error)
            throw error;
        console.log(port);
    });
}

// ---- the client ----

// What came of a call: its messages, its status, and both sides of its metadata.
function outcome(call, unaryReply) {
    return new Promise((done) => {
        const got = { messages: [], head: {} };

        call.on('metadata', (head) => { got.head = head.toHttp2Headers(); });
        call.on('data', (bytes) => got.messages.push(bytes));
        call.on('error', () => {});
        call.on('status', (status) => setImmediate(() => done({
            ...got, code: grpc.status[status.code], details: status.details,
            trailers: status.metadata.toHttp2Headers(), messages: unaryReply ? unaryReply() : got.messages })));
    });
}

function ask(client, name, request, metadata = new grpc.Metadata(), options = {}) {
    let reply = [];
    const call = client[name](request, metadata, options, (error, bytes) => { reply = error ? [] : [bytes]; });

    return outcome(call, () => reply);
}

async function sendMany(client) {
    let reply = [];
    const call = client.up((error, bytes) => { reply = error ? [] : [bytes]; });
    const ended = outcome(call, () => reply);

    for (let i = 0; i < 200; i++)
        if (!call.write(Buffer.alloc(i * 100)))
            await new Promise((done) => call.once('drain', done));
    call.end();
    return ended;
}

// Each message is answered before the next is sent: nothing waits for the end of anything.
async function inTurns(client) {
    const call = client.both();
    const ended = outcome(call);

    for (const word of ['one', 'two', 'three']) {
        const answered = new Promise((done) => call.once('data', done));
        call.write(Buffer.from(word));
        await answered;
    }
    call.end();
    return ended;
}

async function cancelSoon(client) {
    const call = client.unary(Buffer.from('slow'), () => {});
    const ended = outcome(call, () => []);

    await wait(200);
    call.cancel();
    return ended;
}

function print(all) {
    for (const one of Object.values(all)) {
        one.lengths = one.messages.map((bytes) => bytes.length);
        one.messages = one.messages.map((bytes) => bytes.subarray(0, 40).toString());
    }
    console.log(JSON.stringify(all));
}

async function tryAll(target, ca) {
    const Client = grpc.makeGenericClientConstructor(service, 'T');
    const client = new Client(target, ca === undefined ? grpc.credentials.createInsecure()
        : grpc.credentials.createSsl(fs.readFileSync(ca)), { 'grpc.max_receive_message_length': -1 });
    const metadata = new grpc.Metadata(), all = {};

    process.on('exit', () => print(all)); // also when a call never ends, and nothing is left to wait for
    metadata.set('x-key', 'v');
    metadata.set('x-key-bin', Buffer.from([0, 255, 10]));
    all.unary = await ask(client, 'unary', Buffer.from('hello'), metadata);
    all.empty = await ask(client, 'unary', Buffer.alloc(0));
    all.big = await ask(client, 'unary', Buffer.alloc(3000000, 'x'));
    all.fail = await ask(client, 'unary', Buffer.from('fail'));
    all.none = await ask(client, 'none', Buffer.from('x'));
    all.deadline = await ask(client, 'unary', Buffer.from('deadline'), metadata, { deadline: Date.now() + 20000 });
    all.late = await ask(client, 'unary', Buffer.from('slow'), metadata, { deadline: Date.now() + 400 });
    all.cancelled = await cancelSoon(client);
    await wait(300);
    all.told = await ask(client, 'unary', Buffer.from('cancelled'));
    all.up = await sendMany(client);
    all.down = await outcome(client.down(Buffer.from('x')));
    all.middle = await outcome(client.down(Buffer.from('fail')));
    all.both = await inTurns(client);
    all.many = { messages: [], code: (await Promise.all(Array.from({ length: 100 }, (_, i) =>
        ask(client, 'unary', Buffer.alloc(i * 500, 'x'))))).map((one) => one.code) };
    client.close();
}

const [what, ...args] = process.argv.slice(2);
if (what === 'server')
    serve(...args);
else
    tryAll(...args);

// Greets, and counts the greetings of each name.
const express = require('express');

const greetings = new Map();
const app = express();

app.get('/health', (_, answer) => answer.send('fine'));
app.get('/greet/:name', (request, answer) => {
  const { name } = request.params;
  greetings.set(name, (greetings.get(name) ?? 0) + 1);
  answer.json({ hello: name, times: greetings.get(name) });
});
app.listen(3000, () => console.log('listening on port 3000'));

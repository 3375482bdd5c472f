"""The vendor's own sample for Ark v3 (standard, streaming, embeddings); only the addresses and the numbering are ours.

Runs in an environment that holds the official SDK and nothing of Arkway. The API key comes from ARK_API_KEY.
"""

import sys

from volcenginesdkarkruntime import Ark

BASE_URL, CHAT_ENDPOINT, EMBEDDING_ENDPOINT = sys.argv[1:4]
QUESTION = [
    {"role": "system", "content": "你是豆包,是由字节跳动开发的 AI 人工智能助手"},
    {"role": "user", "content": "常见的十字花科植物有哪些?"},
]

client = Ark(base_url=BASE_URL)

print("----- standard request -----")
completion = client.chat.completions.create(model=CHAT_ENDPOINT, messages=QUESTION)
print(completion.choices[0].message.content)
print(completion.usage)

print("----- streaming request -----")
stream = client.chat.completions.create(model=CHAT_ENDPOINT, messages=QUESTION, stream=True)
for chunk in stream:
    if not chunk.choices:
        continue
    print(chunk.choices[0].delta.content, end="", flush=True)
print()

print("----- embeddings request -----")
resp = client.embeddings.create(model=EMBEDDING_ENDPOINT, input=["花椰菜又称菜花、花菜,是一种常见的蔬菜。"])
vector = resp.data[0].embedding
print(f"{resp.object} of {len(resp.data)}, {len(vector)} dimensions: {vector[:4]} ... {resp.usage}")

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.volcengine.ark.runtime.exception.ArkHttpException;
import com.volcengine.ark.runtime.model.bot.completion.chat.BotChatCompletionRequest;
import com.volcengine.ark.runtime.model.completion.chat.ChatCompletionRequest;
import com.volcengine.ark.runtime.model.embeddings.EmbeddingRequest;
import com.volcengine.ark.runtime.model.tokenization.TokenizationRequest;
import com.volcengine.ark.runtime.service.ArkService;

import io.reactivex.Flowable;

import java.io.IOException;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * Uses volcengine-java-sdk-ark-runtime on demand.
 *
 * <p>A question is {@code {"operation": "v3 chat", "scheme", "host", "api_key", "endpoint_id", "arguments": the request's
 * fields, and "extra_headers"}}.
 */
final class ArkDriver {
    private static final ObjectMapper JSON = ArkService.defaultObjectMapper();
    private static final int CHUNKS_BEFORE_LEAVING = 3;

    /** A service object and its connections are kept for the next call that needs the same, as a program would. */
    private static final Map<List<String>, ArkService> KEPT = new HashMap<>();

    private ArkDriver() {
    }

    public static void main(String[] arguments) throws IOException {
        JsonLines.serve(ArkDriver::call, ArkDriver::surfaced);
    }

    private static JsonNode call(JsonNode ask) throws Exception {
        String baseUrl = ask.get("scheme").asText() + "://" + ask.get("host").asText() + "/api/v3";
        String apiKey = ask.get("api_key").asText();
        return call(KEPT.computeIfAbsent(List.of(baseUrl, apiKey),
                key -> ArkService.builder().apiKey(apiKey).baseUrl(baseUrl).build()), ask);
    }

    @SuppressWarnings("unchecked")
    private static JsonNode call(ArkService service, JsonNode ask) throws Exception {
        ObjectNode fields = ask.get("arguments").deepCopy();
        JsonNode extra = fields.remove("extra_headers");
        Map<String, String> headers = extra == null ? Map.of() : JSON.convertValue(extra, Map.class);
        switch (ask.get("operation").asText()) {
            case "v3 chat":
                return tree(service.createChatCompletion(chatRequest(fields), headers));
            case "v3 stream":
                return drained(service.streamChatCompletion(chatRequest(fields), headers));
            case "v3 bot_chat":
                return tree(service.createBotChatCompletion(botRequest(fields), headers));
            case "v3 bot_stream":
                return drained(service.streamBotChatCompletion(botRequest(fields), headers));
            case "v3 abort":
                return drained(service.streamChatCompletion(chatRequest(fields), headers).take(CHUNKS_BEFORE_LEAVING));
            case "v3 embeddings":
                return tree(service.createEmbeddings(JSON.convertValue(fields, EmbeddingRequest.class), headers));
            case "v3 tokenization":
                return tree(service.createTokenization(JSON.convertValue(fields, TokenizationRequest.class), headers));
            default:
                throw new IllegalArgumentException("no such operation: " + ask.get("operation"));
        }
    }

    /** All chunks of a stream. They are kept as they arrive: the SDK's iterators may lose the last before an error. */
    private static JsonNode drained(Flowable<?> stream) throws JsonLines.Broken {
        ArrayNode chunks = JsonLines.JSON.createArrayNode();
        Throwable error = stream.doOnNext(chunk -> chunks.add(tree(chunk))).ignoreElements().blockingGet();
        if (error != null) {
            throw new JsonLines.Broken(chunks, error);
        }
        return chunks;
    }

    private static ChatCompletionRequest chatRequest(ObjectNode fields) {
        return request(fields, ChatCompletionRequest.class);
    }

    private static BotChatCompletionRequest botRequest(ObjectNode fields) {
        return request(fields, BotChatCompletionRequest.class);
    }

    private static <R extends ChatCompletionRequest> R request(ObjectNode fields, Class<R> kind) {
        JsonNode options = fields.remove("stream_options"); // of the one class that Jackson cannot make
        R request = JSON.convertValue(fields, kind);
        if (options != null) {
            request.setStreamOptions(ChatCompletionRequest.ChatCompletionRequestStreamOptions.of(
                    options.get("include_usage").asBoolean()));
        }
        return request;
    }

    private static JsonNode tree(Object reply) {
        return JSON.valueToTree(reply);
    }

    private static ObjectNode surfaced(Throwable error) {
        ObjectNode fields = JsonLines.JSON.createObjectNode();
        fields.put("class", error.getClass().getSimpleName()).put("message", error.getMessage());
        if (error instanceof ArkHttpException) {
            ArkHttpException refusal = (ArkHttpException) error;
            fields.put("status", refusal.statusCode).put("code", refusal.code).put("param", refusal.param);
            fields.put("type", refusal.type).put("request_id", refusal.requestId);
        }
        return fields;
    }
}

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.google.protobuf.Message;
import com.google.protobuf.MessageOrBuilder;
import com.google.protobuf.util.JsonFormat;
import com.volcengine.model.maas.api.Api;
import com.volcengine.model.maas.api.v2.ChatReq;
import com.volcengine.model.maas.api.v2.ClassificationReq;
import com.volcengine.model.maas.api.v2.EmbeddingsReq;
import com.volcengine.model.maas.api.v2.ImagesQuickGenRequest;
import com.volcengine.model.maas.api.v2.ImagesRequest;
import com.volcengine.model.maas.api.v2.TokenizeReq;
import com.volcengine.service.BaseServiceImpl;
import com.volcengine.service.maas.MaasException;
import com.volcengine.service.maas.impl.MaasServiceImpl;

import java.io.Closeable;
import java.io.IOException;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/**
 * Uses volc-sdk-java's MaaS services (v1, v2) on demand.
 *
 * <p>A question is {@code {"operation": "v1 chat", "scheme", "host", "access_key_id", "secret_access_key",
 * "session_token", "api_key" (v2), "endpoint_id" (v2), "arguments": the request's fields}}; what is empty is not set.
 */
final class MaasDriver {
    private static final String REGION = "cn-beijing";
    private static final JsonFormat.Printer PRINTER = JsonFormat.printer().preservingProtoFieldNames();
    private static final int FRAMES_BEFORE_LEAVING = 3;

    /** A service object and its connections are kept for the next call that needs the same, as a program would. */
    private static final Map<JsonNode, BaseServiceImpl> KEPT = new HashMap<>();

    private MaasDriver() {
    }

    public static void main(String[] arguments) throws IOException {
        JsonLines.serve(MaasDriver::call, MaasDriver::surfaced);
    }

    private static JsonNode call(JsonNode ask) throws Exception {
        String[] operation = ask.get("operation").asText().split(" ");
        ObjectNode connection = ask.deepCopy();
        connection.put("operation", operation[0]).remove(List.of("arguments", "endpoint_id"));
        if (operation[0].equals("v1")) {
            MaasServiceImpl service = (MaasServiceImpl) KEPT.computeIfAbsent(connection,
                    key -> signing(new MaasServiceImpl(ask.get("host").asText(), REGION), ask));
            return firstGeneration(service, operation[1], ask);
        }
        com.volcengine.service.maas.v2.impl.MaasServiceImpl service =
                (com.volcengine.service.maas.v2.impl.MaasServiceImpl) KEPT.computeIfAbsent(connection, key -> signing(
                        new com.volcengine.service.maas.v2.impl.MaasServiceImpl(ask.get("host").asText(), REGION), ask));
        if (!ask.get("api_key").asText().isEmpty()) {
            service.setApikey(ask.get("api_key").asText());
        }
        return secondGeneration(service, operation[1], ask);
    }

    private static <S extends BaseServiceImpl> S signing(S service, JsonNode ask) {
        service.setScheme(ask.get("scheme").asText());
        service.setAccessKey(ask.get("access_key_id").asText());
        service.setSecretKey(ask.get("secret_access_key").asText());
        if (!ask.get("session_token").asText().isEmpty()) {
            service.setSessionToken(ask.get("session_token").asText());
        }
        return service;
    }

    private static JsonNode firstGeneration(MaasServiceImpl service, String operation, JsonNode ask) throws Exception {
        switch (operation) {
            case "chat":
                return tree(service.chat(merged(ask, Api.ChatReq.newBuilder()).build()));
            case "stream":
                return drained(service.streamChat(merged(ask, Api.ChatReq.newBuilder()).build()));
            case "abort":
                return abandoned(service, service.streamChat(merged(ask, Api.ChatReq.newBuilder()).build()));
            case "tokenization":
                return tree(service.tokenization(merged(ask, Api.TokenizeReq.newBuilder()).build()));
            case "classification":
                return tree(service.classification(merged(ask, Api.ClassificationReq.newBuilder()).build()));
            case "embeddings":
                return tree(service.embeddings(merged(ask, Api.EmbeddingsReq.newBuilder()).build()));
            default:
                throw new IllegalArgumentException("no such operation: " + operation);
        }
    }

    private static JsonNode secondGeneration(
            com.volcengine.service.maas.v2.impl.MaasServiceImpl service, String operation, JsonNode ask)
            throws Exception {
        String endpoint = ask.get("endpoint_id").asText();
        switch (operation) {
            case "chat":
                return tree(service.chat(endpoint, converted(ask, ChatReq.class)));
            case "stream":
                return drained(service.streamChat(endpoint, converted(ask, ChatReq.class)));
            case "abort":
                return abandoned(service, service.streamChat(endpoint, converted(ask, ChatReq.class)));
            case "tokenization":
                return tree(service.tokenization(endpoint, converted(ask, TokenizeReq.class)));
            case "classification":
                return tree(service.classification(endpoint, converted(ask, ClassificationReq.class)));
            case "embeddings":
                return tree(service.embeddings(endpoint, converted(ask, EmbeddingsReq.class)));
            case "quick_gen":
                return tree(service.images().ImagesQuickGen(endpoint, converted(ask, ImagesQuickGenRequest.class)));
            case "flex_gen":
                return tree(service.images().ImagesFlexGen(endpoint, converted(ask, ImagesRequest.class)));
            default:
                throw new IllegalArgumentException("no such operation: " + operation);
        }
    }

    private static JsonNode drained(Stream<?> frames) throws JsonLines.Broken {
        ArrayNode chunks = JsonLines.JSON.createArrayNode();
        try {
            frames.forEach(frame -> chunks.add(tree(frame)));
        } catch (RuntimeException error) {
            throw new JsonLines.Broken(chunks, error);
        }
        return chunks;
    }

    /** Leaves a stream after three frames. The SDK's streams hold no handle on their connection; its client does. */
    private static JsonNode abandoned(BaseServiceImpl service, Stream<?> frames) throws IOException {
        ArrayNode chunks = JsonLines.JSON.createArrayNode();
        Iterator<?> iterator = frames.iterator();
        while (chunks.size() < FRAMES_BEFORE_LEAVING) {
            chunks.add(tree(iterator.next()));
        }
        KEPT.values().remove(service);
        ((Closeable) service.getHttpClient()).close();
        service.destroy();
        return chunks;
    }

    private static <B extends Message.Builder> B merged(JsonNode ask, B builder) throws IOException {
        JsonFormat.parser().merge(ask.get("arguments").toString(), builder);
        return builder;
    }

    private static <T> T converted(JsonNode ask, Class<T> type) {
        return JsonLines.JSON.convertValue(ask.get("arguments"), type);
    }

    private static JsonNode tree(Object reply) {
        try {
            return reply instanceof MessageOrBuilder
                    ? JsonLines.JSON.readTree(PRINTER.print((MessageOrBuilder) reply))
                    : JsonLines.JSON.valueToTree(reply);
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    /** A stream's errors arrive inside a RuntimeException: {@code wrapped} tells. */
    private static ObjectNode surfaced(Throwable error) {
        boolean wrapped = error.getCause() instanceof MaasException;
        Throwable cause = wrapped ? error.getCause() : error;
        ObjectNode fields = JsonLines.JSON.createObjectNode();
        fields.put("class", cause.getClass().getSimpleName()).put("wrapped", wrapped);
        if (!(cause instanceof MaasException)) {
            return fields.put("message", String.valueOf(cause));
        }
        MaasException refusal = (MaasException) cause;
        fields.put("code", refusal.getCode()).put("code_n", refusal.getCodeN());
        return fields.put("message", refusal.getMsg()).put("req_id", refusal.getRequestId());
    }
}

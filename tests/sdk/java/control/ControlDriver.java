import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.google.gson.Gson;
import com.volcengine.ApiClient;
import com.volcengine.ApiException;
import com.volcengine.ark.ArkApi;
import com.volcengine.sign.Credentials;

import java.io.IOException;
import java.lang.reflect.InvocationTargetException;

/**
 * Uses volcengine-java-sdk-ark, the client of the control plane, on demand.
 *
 * <p>A question is {@code {"operation": "control GetEndpoint", "host", "access_key_id", "secret_access_key",
 * "arguments": the request's fields}}.
 */
final class ControlDriver {
    private static final Gson GSON = new Gson();

    private ControlDriver() {
    }

    public static void main(String[] arguments) throws IOException {
        JsonLines.serve(ControlDriver::call, ControlDriver::surfaced);
    }

    private static JsonNode call(JsonNode ask) throws Exception {
        Credentials pair = Credentials.getCredentials(
                ask.get("access_key_id").asText(), ask.get("secret_access_key").asText());
        ApiClient client = new ApiClient()
                .setCredentials(pair)
                .setRegion("cn-beijing")
                .setEndpoint(ask.get("host").asText())
                .setDisableSSL(true);
        String action = ask.get("operation").asText().split(" ")[1];
        Class<?> kind = Class.forName("com.volcengine.ark.model." + action + "Request");
        Object request = GSON.fromJson(ask.get("arguments").toString(), kind);
        String method = Character.toLowerCase(action.charAt(0)) + action.substring(1);
        try {
            Object result = ArkApi.class.getMethod(method, kind).invoke(new ArkApi(client), request);
            return JsonLines.JSON.readTree(GSON.toJson(result));
        } catch (InvocationTargetException thrown) {
            throw (Exception) thrown.getCause();
        }
    }

    private static ObjectNode surfaced(Throwable error) {
        ObjectNode seen = JsonLines.JSON.createObjectNode();
        seen.put("class", error.getClass().getSimpleName()).put("message", String.valueOf(error.getMessage()));
        if (error instanceof ApiException) {
            ApiException known = (ApiException) error;
            seen.put("status", known.getCode()).put("body", known.getResponseBody());
        }
        return seen;
    }
}

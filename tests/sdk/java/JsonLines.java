import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/** One JSON object per line in, one per line out: what a caller asks of an SDK, and what the SDK surfaced. */
final class JsonLines {
    static final ObjectMapper JSON = new ObjectMapper();

    /** Makes one call. */
    interface Client {
        JsonNode call(JsonNode ask) throws Exception;
    }

    /** Tells what there is to see of an exception that the SDK threw. */
    interface Surface {
        ObjectNode of(Throwable error);
    }

    /** A stream that threw after some chunks. */
    static final class Broken extends Exception {
        final ArrayNode chunks;

        Broken(ArrayNode chunks, Throwable cause) {
            super(cause);
            this.chunks = chunks;
        }
    }

    private JsonLines() {
    }

    static void serve(Client client, Surface surface) throws IOException {
        PrintStream answers = System.out;
        System.setOut(System.err); // what an SDK prints is not an answer
        BufferedReader questions = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            answers.write(JSON.writeValueAsBytes(answer(client, surface, JSON.readTree(line))));
            answers.write('\n');
            answers.flush();
        }
        System.exit(0); // the SDKs leave threads behind
    }

    private static ObjectNode answer(Client client, Surface surface, JsonNode ask) {
        ObjectNode answer = JSON.createObjectNode();
        try {
            return answer.set("result", client.call(ask));
        } catch (Broken broken) {
            answer.set("error", surface.of(broken.getCause()));
            return answer.set("chunks", broken.chunks);
        } catch (Throwable error) {
            answer.set("error", surface.of(error));
            return answer.set("chunks", JSON.createArrayNode());
        }
    }
}

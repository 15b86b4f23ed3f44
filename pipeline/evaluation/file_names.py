"""Names of the files that an evaluation writes into its folder."""

REPORT_JSON = "report.json"
REPORT_MARKDOWN = "report.md"
